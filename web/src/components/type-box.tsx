// A form that types a text into the focused field of the machine's desktop, as keys of its RFB connection: nothing else gets the text.

import { useState } from "preact/hooks";
import type { Desktop } from "../desktop";
import { useStore } from "../store";
import { texts } from "../texts";

/** At the rate at which the server forwards keys, this takes 16 seconds. */
const CHARACTERS_MAX = 4_096;

export function TypeBox({ desktop }: { desktop: Desktop }) {
  const live = useStore(desktop.live);
  const [text, setText] = useState("");
  const [is_shown, setIsShown] = useState(false);
  const [with_enter, setWithEnter] = useState(false);
  const [message, setMessage] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (text === "" || !live) return;
    desktop.typeExactText(text, with_enter);
    setText("");
    setMessage(texts.remote.typed);
  };
  const field = {
    id: "type-text",
    value: text,
    maxLength: CHARACTERS_MAX,
    // Browsers offer to save what is typed into other password fields.
    autocomplete: "one-time-code",
    autocapitalize: "off",
    spellcheck: false,
    "aria-describedby": "type-text-hint",
    onInput: (event: Event & { currentTarget: HTMLInputElement }) => {
      setText(event.currentTarget.value);
      setMessage("");
    },
  } as const;
  return (
    <form class="type-box" onSubmit={submit}>
      <label for="type-text">{texts.remote.type_into}</label>
      <div class="type-box-row">
        {is_shown ? <input type="text" {...field} /> : <input type="password" {...field} />}
        <button type="button" aria-pressed={is_shown} aria-controls="type-text" onClick={() => setIsShown(!is_shown)}>
          {texts.remote.show_typed}
        </button>
        <button type="submit" aria-disabled={text === "" || !live}>
          {texts.remote.type_it}
        </button>
      </div>
      <div class="row">
        <label class="checkbox">
          <input type="checkbox" checked={with_enter} onChange={(event) => setWithEnter(event.currentTarget.checked)} />
          {texts.remote.then_enter}
        </label>
        <span role="status" class="muted">
          {message}
        </span>
      </div>
      <p id="type-text-hint" class="hint">
        {texts.remote.type_hint}
      </p>
    </form>
  );
}
