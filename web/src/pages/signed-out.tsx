// Explains how to sign in.

import { useState } from "preact/hooks";
import { accessEnded } from "../access-ended";
import type { Problem } from "../api";
import { Frame } from "../components/frame";
import { EndSession, OidcSignIn } from "../components/oidc-sign-in";
import { ProblemNote } from "../components/problem-note";
import { hasJustSignedOut } from "../oidc";

/** @param props.problem is shown unless its code is `unauthenticated` */
export function SignedOut({ problem }: { problem: Problem }) {
  const [has_signed_out] = useState(hasJustSignedOut);
  const ended = accessEnded(problem.close_code);
  return (
    <Frame title={ended?.title ?? "Not signed in"} page="signed-out">
      <h1>{ended?.title ?? "You are not signed in"}</h1>
      {ended !== null ? (
        <div class="note" role="alert" data-problem={problem.code}>
          <p>{ended.text}</p>
          <p>{ended.remedy}</p>
        </div>
      ) : problem.code === "unauthenticated" ? null : (
        <ProblemNote problem={problem} />
      )}
      {has_signed_out ? <EndSession /> : null}
      {problem.code === "helper_ended" ? null : <HowToSignIn />}
    </Frame>
  );
}

function HowToSignIn() {
  return (
    <>
      <OidcSignIn />
      <p>
        Open the link that <code>anteroom serve</code> printed when it started. It works once and signs this browser in;{" "}
        <code>anteroom login-link</code> prints another one.
      </p>
      <p class="muted">If another application sent you here, go back to it and start again: its link also works only once.</p>
    </>
  );
}
