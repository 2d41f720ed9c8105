// Hints for operators.

import { texts } from "../texts";

/** How an operator signs in: folded, because most people who read it came with a link of another application. */
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

/** Where the connections are that an operator may see, and that its own list does not have. */
export function OtherConnectionsHint() {
  return (
    <p class="hint" lang="en" data-elsewhere>
      Only sign-ins of these pages are listed. What <code>anteroom login</code> and other callers stored is among{" "}
      <a href="/admin/connections">all connections</a>.
    </p>
  );
}
