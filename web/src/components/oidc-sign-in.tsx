// Buttons that go to the OpenID provider: to sign in, to confirm, to sign out there.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type OidcProvider, type Problem } from "../api";
import { goToProvider, hostOf } from "../oidc";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

/** The provider; `null` while it is not known, and if there is none. */
function useProvider(): OidcProvider | null {
  const [provider, setProvider] = useState<OidcProvider | null>(null);
  useEffect(() => {
    // Without an answer there is only the link.
    void api.oidcProvider().then(setProvider, () => undefined);
  }, []);
  return provider;
}

interface OidcButtonProps {
  purpose: "sign-in" | "confirm";
  label: string;
}

function OidcButton({ purpose, label }: OidcButtonProps) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [is_going, setGoing] = useState(false);
  const go = () => {
    setProblem(null);
    setGoing(true);
    goToProvider(purpose).catch((error: unknown) => {
      setGoing(false);
      setProblem(toProblem(error));
    });
  };
  return (
    <>
      <p>
        <button type="button" class="primary" data-action={`oidc-${purpose}`} disabled={is_going} onClick={go}>
          {label}
        </button>
      </p>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </>
  );
}

/** The button that signs in, if a provider is configured. */
export function OidcSignIn() {
  const issuer = useProvider()?.issuer ?? null;
  return issuer === null ? null : <OidcButton purpose="sign-in" label={texts.sign_in_with(hostOf(issuer))} />;
}

/** The button that confirms that the user is present, if this browser signed in with the provider. */
export function OidcConfirm() {
  const [is_person, setPerson] = useState(false);
  useEffect(() => {
    void api.currentCaller().then(
      (caller) => setPerson(caller.sign_in === "oidc"),
      () => undefined,
    );
  }, []);
  return is_person ? <OidcButton purpose="confirm" label={texts.confirm_with_provider} /> : null;
}

/** The link that signs out of the provider, if that has one. */
export function EndSession() {
  const provider = useProvider();
  if (provider?.issuer == null || provider.end_session_url === null) return null;
  return (
    <p>
      {texts.still_signed_in(hostOf(provider.issuer))}{" "}
      <a data-action="end-session" href={provider.end_session_url}>
        {texts.sign_out_there}
      </a>
      .
    </p>
  );
}
