// Explains how to sign in.

import type { Problem } from "../api";
import { Frame } from "../components/frame";
import { ProblemNote } from "../components/problem-note";

/** @param props.problem is shown unless its code is `unauthenticated` */
export function SignedOut({ problem }: { problem: Problem }) {
  return (
    <Frame title="Not signed in" page="signed-out">
      <h1>You are not signed in</h1>
      {problem.code === "unauthenticated" ? null : <ProblemNote problem={problem} />}
      <p>
        Open the link that <code>anteroom serve</code> printed when it started. It works once and signs this browser in;{" "}
        <code>anteroom login-link</code> prints another one.
      </p>
      <p class="muted">If another application sent you here, go back to it and start again: its link also works only once.</p>
    </Frame>
  );
}
