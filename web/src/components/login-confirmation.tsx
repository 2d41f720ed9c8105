// Asks before a link is used: programs that open the links in mails and messages must not use it up.

import { Frame } from "./frame";

interface LoginConfirmationProps {
  onConfirm: () => void;
}

export function LoginConfirmation({ onConfirm }: LoginConfirmationProps) {
  return (
    <Frame title="Open Anteroom" page="login" status="confirm">
      <h1>Open Anteroom in this browser?</h1>
      <p>This link works once. Continue only in the browser that you want to use.</p>
      <p>
        <button type="button" class="primary" data-action="log-in" onClick={onConfirm}>
          Continue
        </button>
      </p>
    </Frame>
  );
}
