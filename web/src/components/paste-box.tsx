// A form that sends one line of text to the machine, which has a separate clipboard. The API accepts no line breaks, and an input
// element removes them from pasted text.

import { useState } from "preact/hooks";
import { toProblem, type Problem } from "../api";
import { ProblemNote } from "./problem-note";

/** The API accepts up to 16 KiB. */
const CHARACTERS_MAX = 16_384;

interface PasteBoxProps {
  id: string;
  label: string;
  hint: string;
  button: string;
  /** Hides the text while it is typed. */
  secret?: boolean;
  /** Whether sending is the next thing to do on the page. */
  is_primary?: boolean;
  /** Sends the text and returns the message to show. */
  send: (text: string) => Promise<string>;
}

export function PasteBox({ id, label, hint, button, secret = false, is_primary = false, send }: PasteBoxProps) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [message, setMessage] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (text === "") return;
    setProblem(null);
    setMessage("");
    send(text).then(
      (sent_message) => {
        setText("");
        setMessage(sent_message);
      },
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  const field = {
    id,
    value: text,
    maxLength: CHARACTERS_MAX,
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: false,
    "aria-describedby": `${id}-hint`,
    onInput: (event: Event & { currentTarget: HTMLInputElement }) => setText(event.currentTarget.value),
  } as const;
  return (
    <form class="paste-box" onSubmit={submit}>
      <label for={id}>{label}</label>
      {secret ? <input type="password" {...field} /> : <input type="text" {...field} />}
      <p id={`${id}-hint`} class="hint">
        {hint}
      </p>
      <div class="row">
        <button type="submit" class={is_primary ? "primary" : undefined} aria-disabled={text === ""}>
          {button}
        </button>
        <span role="status" class="muted">
          {message}
        </span>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </form>
  );
}
