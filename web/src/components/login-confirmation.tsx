// Asks before a link is used: programs that open the links in mails and messages must not use it up.

import type { Problem } from "../api";
import { texts } from "../texts";
import { Frame } from "./frame";
import { ProblemNote } from "./problem-note";

interface LoginConfirmationProps {
  onConfirm: () => void;
  /** Why the server was not reached; the link is not used up. */
  problem?: Problem | null;
}

export function LoginConfirmation({ onConfirm, problem = null }: LoginConfirmationProps) {
  return (
    <Frame title={texts.open_anteroom} page="login" status="confirm">
      <h1>Open Anteroom in this browser?</h1>
      <p>This link works once. Continue only in the browser that you want to use.</p>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <p>
        <button type="button" class="primary" data-action="log-in" onClick={onConfirm}>
          {problem === null ? "Continue" : "Try again"}
        </button>
      </p>
    </Frame>
  );
}
