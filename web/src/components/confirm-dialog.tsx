// A question before something that cannot be taken back.

import { useEffect, useRef } from "preact/hooks";

interface AskProps {
  question: string;
  detail: string;
  yes: string;
  no: string;
  /** Another way of yes, the better one where there is one. */
  rather?: string | undefined;
  onAnswer: (yes: boolean, rather: boolean) => void;
}

export function Ask(props: AskProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element !== null && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      class="ask"
      aria-labelledby="ask-question"
      aria-describedby="ask-detail"
      onCancel={(event) => {
        event.preventDefault();
        props.onAnswer(false, false);
      }}
    >
      <h2 id="ask-question">{props.question}</h2>
      <p id="ask-detail">{props.detail}</p>
      <div class="row end">
        <button type="button" autofocus onClick={() => props.onAnswer(false, false)}>
          {props.no}
        </button>
        <button type="button" class="danger" onClick={() => props.onAnswer(true, false)}>
          {props.yes}
        </button>
        {props.rather === undefined ? null : (
          <button type="button" class="danger" data-rather onClick={() => props.onAnswer(true, true)}>
            {props.rather}
          </button>
        )}
      </div>
    </dialog>
  );
}
