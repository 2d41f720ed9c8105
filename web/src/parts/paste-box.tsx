// Text into the machine's terminal: what was copied here is not on the machine's clipboard.

import { useState } from "preact/hooks";
import { api, asProblem, type ProblemBody } from "../api";
import { ProblemNote } from "./problem-note";

/** The agent takes up to 16 KiB at a time. */
const CHARACTERS_MAX = 16_384;

interface PasteBoxProps {
  session: string;
  label: string;
  hint: string;
  button: string;
  /** Press Enter afterwards. */
  enter: boolean;
  /** One line (a code) or more. */
  lines: 1 | 3;
}

export function PasteBox({ session, label, hint, button, enter, lines }: PasteBoxProps) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [said, say] = useState("");
  const id = `paste-${enter ? "code" : "text"}`;
  const send = () => {
    setProblem(null);
    say("");
    api.type(session, text, enter).then(
      () => {
        setText("");
        say("Sent to the machine.");
      },
      (thrown: unknown) => setProblem(asProblem(thrown)),
    );
  };
  const shared = {
    id,
    value: text,
    maxLength: CHARACTERS_MAX,
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: false,
    "aria-describedby": `${id}-hint`,
    onInput: (event: Event & { currentTarget: HTMLInputElement | HTMLTextAreaElement }) => setText(event.currentTarget.value),
  } as const;
  return (
    <form
      class="paste"
      onSubmit={(event) => {
        event.preventDefault();
        if (text !== "") send();
      }}
    >
      <label for={id}>{label}</label>
      {lines === 1 ? <input type="text" {...shared} /> : <textarea rows={lines} {...shared} />}
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
