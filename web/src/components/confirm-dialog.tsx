// A modal dialog that asks for confirmation before an action that cannot be undone.

import { useEffect, useRef } from "preact/hooks";

export type Choice = "cancel" | "confirm" | "alternative";

/** The texts of the dialog and its buttons. */
export interface ConfirmDialogTexts {
  question: string;
  detail: string;
  confirm: string;
  cancel: string;
  /** The label of a second button that confirms; absent: no such button. */
  alternative?: string | undefined;
}

interface ConfirmDialogProps extends ConfirmDialogTexts {
  onChoice: (choice: Choice) => void;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    const focused = document.activeElement;
    if (element !== null && !element.open) element.showModal();
    return () => {
      element?.close();
      // A dialog that is removed from the page does not return the focus.
      if (focused instanceof HTMLElement && focused.isConnected) focused.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class="confirm-dialog"
      aria-labelledby="confirm-question"
      aria-describedby="confirm-detail"
      onCancel={(event) => {
        event.preventDefault();
        props.onChoice("cancel");
      }}
    >
      <h2 id="confirm-question">{props.question}</h2>
      <p id="confirm-detail">{props.detail}</p>
      <div class="row end">
        <button type="button" autofocus onClick={() => props.onChoice("cancel")}>
          {props.cancel}
        </button>
        <button type="button" class="danger" onClick={() => props.onChoice("confirm")}>
          {props.confirm}
        </button>
        {props.alternative === undefined ? null : (
          <button type="button" class="danger" data-alternative onClick={() => props.onChoice("alternative")}>
            {props.alternative}
          </button>
        )}
      </div>
    </dialog>
  );
}
