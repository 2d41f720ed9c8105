// /dashboard/remote-cli: which tool to sign in; what was signed in before.

import { useCallback, useEffect, useState } from "preact/hooks";
import {
  api,
  asProblem,
  Refused,
  type CredentialMeta,
  type Health,
  type Me,
  type ProblemBody,
  type ProviderView,
  type SessionView,
} from "../api";
import { Credentials } from "../components/credentials";
import { Frame } from "../components/frame";
import { HealthNote } from "../components/health-note";
import { ProblemNote } from "../components/problem-note";
import { Providers } from "../components/providers";
import { Sessions } from "../components/sessions";
import { sessionPage } from "../pages";
import { SignedOut } from "./signed-out";

interface Shown {
  me: Me;
  providers: ProviderView[];
  sessions: SessionView[];
  credentials: CredentialMeta[];
  health: Health | null;
}

async function load(): Promise<Shown> {
  const me = await api.me();
  if (me.session !== null && me.role === "viewer") {
    // A viewer may see one session and nothing else: go there.
    const session = await api.session(me.session);
    window.location.replace(sessionPage(session.id, session.provider));
    return new Promise(() => undefined);
  }
  const [providers, sessions, credentials, health] = await Promise.all([
    api.providers(),
    api.sessions(),
    api.credentials(),
    api.health(),
  ]);
  return { me, providers, sessions, credentials, health };
}

export function Pick() {
  const [shown, show] = useState<Shown | null>(null);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [signed_out, setSignedOut] = useState<ProblemBody | null>(null);
  const reload = useCallback(() => {
    load().then(
      (next) => {
        show(next);
        setProblem(null);
      },
      (thrown: unknown) => {
        if (thrown instanceof Refused && thrown.status === 401) setSignedOut(thrown.problem);
        else setProblem(asProblem(thrown));
      },
    );
  }, []);
  useEffect(() => {
    reload();
    // The page may come back from the browser's memory, as it was left.
    window.addEventListener("pageshow", reload);
    // The next page's code, while nobody waits for it.
    const idle = window.setTimeout(() => void import("./auth"), 1_500);
    return () => {
      window.removeEventListener("pageshow", reload);
      window.clearTimeout(idle);
    };
  }, [reload]);

  if (signed_out !== null) return <SignedOut problem={signed_out} />;
  return (
    <Frame title="Sign a tool in" page="pick">
      <h1>Sign a tool in</h1>
      <p class="lead">
        Pick a tool. It starts in a machine of its own that is thrown away afterwards; you sign in, and only the credential is
        kept, sealed.
      </p>
      {problem === null ? null : (
        <ProblemNote problem={problem}>
          <button type="button" onClick={reload}>
            Try again
          </button>
        </ProblemNote>
      )}
      {shown === null ? (
        problem === null ? (
          <p class="quiet" role="status">
            Loading…
          </p>
        ) : null
      ) : (
        <>
          <HealthNote health={shown.health} />
          <Providers providers={shown.providers} />
          <Sessions sessions={shown.sessions} />
          <Credentials credentials={shown.credentials} providers={shown.providers} onChange={reload} />
        </>
      )}
    </Frame>
  );
}
