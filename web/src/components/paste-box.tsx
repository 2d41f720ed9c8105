// Text into the machine's terminal: what was copied here is not on the machine's clipboard. One line: the terminal takes
// no line breaks this way, and a text field drops them from what is pasted.

import { useState } from "preact/hooks";
import { asProblem, type ProblemBody } from "../api";
import { ProblemNote } from "./problem-note";

/** The server takes up to 16 KiB at a time. */
const CHARACTERS_MAX = 16_384;

interface PasteBoxProps {
  id: string;
  label: string;
  hint: string;
  button: string;
  /** Not shown while it is typed. */
  secret?: boolean;
  /** What is said once it was sent; a send may say it itself. */
  send: (text: string) => Promise<string | undefined>;
}

export function PasteBox({ id, label, hint, button, secret = false, send }: PasteBoxProps) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [said, say] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (text === "") return;
    setProblem(null);
    say("");
    send(text).then(
      (words) => {
        setText("");
        say(words ?? "Sent to the machine.");
      },
      (thrown: unknown) => setProblem(asProblem(thrown)),
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
    <form class="paste" onSubmit={submit}>
      <label for={id}>{label}</label>
      {secret ? <input type="password" {...field} /> : <input type="text" {...field} />}
      <p id={`${id}-hint`} class="hint">
        {hint}
      </p>
      <div class="row">
        <button type="submit" disabled={text === ""}>
          {button}
        </button>
        <span role="status" class="quiet">
          {said}
        </span>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </form>
  );
}
