// How an operator signs in: folded, because most people who read it came with a link of another application.

import { texts } from "../texts";

export function OperatorHint() {
  return (
    <details class="operator-hint">
      <summary>{texts.for_operators}</summary>
      <p lang="en">
        Open the link that <code>anteroom serve</code> printed when it started. It works once and signs this browser in;{" "}
        <code>anteroom login-link</code> prints another one.
      </p>
    </details>
  );
}
