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
      <h1>{texts.open_in_this_browser}</h1>
      <p>{texts.open_in_this_browser_detail}</p>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <p>
        <button type="button" class="primary" data-action="log-in" onClick={onConfirm}>
          {problem === null ? texts.go_on : texts.try_again}
        </button>
      </p>
    </Frame>
  );
}
