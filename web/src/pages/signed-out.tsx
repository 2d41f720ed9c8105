// Explains how to sign in.

import { useState } from "preact/hooks";
import { accessEnded } from "../access-ended";
import type { Problem } from "../api";
import { Frame } from "../components/frame";
import { EndSession, OidcSignIn } from "../components/oidc-sign-in";
import { OperatorHint } from "../components/operator-hint";
import { PasteLink } from "../components/paste-link";
import { ProblemNote } from "../components/problem-note";
import { hasJustSignedOut } from "../oidc";
import { texts } from "../texts";

interface SignedOutProps {
  /** Shown unless its code is `unauthenticated`. */
  problem: Problem;
  /** Whether a session's page was requested: then the user came with a link of another application. */
  of_session?: boolean;
}

export function SignedOut({ problem, of_session = false }: SignedOutProps) {
  const [has_signed_out] = useState(hasJustSignedOut);
  const ended = accessEnded(problem.close_code);
  return (
    <Frame title={ended?.title ?? texts.not_signed_in} page="signed-out">
      <h1>{ended?.title ?? texts.you_are_not_signed_in}</h1>
      {ended !== null ? (
        <div class="note" role="alert" data-problem={problem.code}>
          <p>{ended.text}</p>
          <p>{ended.remedy}</p>
        </div>
      ) : problem.code === "unauthenticated" ? null : of_session && problem.code === "ticket_used" ? (
        <UsedLink owner={problem.owner ?? null} />
      ) : (
        <ProblemNote problem={problem} />
      )}
      {of_session && problem.code === "unauthenticated" && !has_signed_out ? <PasteLink /> : null}
      {has_signed_out ? <EndSession /> : null}
      {problem.code === "helper_ended" ? null : <HowToSignIn of_session={of_session} />}
    </Frame>
  );
}

/** The address of this page has no token any more: a browser that the link has signed in continues there. */
function UsedLink({ owner }: { owner: string | null }) {
  return (
    <div class="note" role="alert" data-problem="ticket_used">
      <p>
        <strong>{texts.link_used}</strong>
      </p>
      <p>
        {texts.link_used_here} <a href={window.location.href}>{texts.continue_here}</a>
      </p>
      <p>{owner === null ? texts.link_used_elsewhere : texts.link_of(owner)}</p>
    </div>
  );
}

function HowToSignIn({ of_session }: { of_session: boolean }) {
  return (
    <>
      <OidcSignIn />
      <p>{texts.link_works_once}</p>
      {of_session ? null : <OperatorHint />}
    </>
  );
}
