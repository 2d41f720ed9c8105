// Nobody is signed in: how to.

import type { ProblemBody } from "../api";
import { Frame } from "../components/frame";
import { ProblemNote } from "../components/problem-note";

export function SignedOut({ problem }: { problem?: ProblemBody }) {
  const told = problem !== undefined && problem.code !== "unauthenticated";
  return (
    <Frame title="Not signed in" page="signed-out">
      <h1>You are not signed in</h1>
      {told ? <ProblemNote problem={problem} /> : null}
      <p>
        Open the link that <code>anteroom serve</code> printed when it started. It works once and signs this browser in;{" "}
        <code>anteroom login-link</code> prints another.
      </p>
      <p class="quiet">
        If another application sent you here, go back to it and start again: its link works once, too.
      </p>
    </Frame>
  );
}
