// The machine's clipboard: the last text that was copied there, and a form that puts a text into it. For browsers and pages (plain http)
// that do not let a page use the person's clipboard.

import { useState } from "preact/hooks";
import type { Desktop } from "../desktop";
import { CLIPBOARD_CHARACTERS_MAX } from "../desktop-clipboard";
import { useStore } from "../store";
import { CopyButton } from "./copy-button";

export function ClipboardPanel({ desktop }: { desktop: Desktop }) {
  const live = useStore(desktop.live);
  const copied = useStore(desktop.clipboard.copied);
  const [text, setText] = useState("");
  const [message, setMessage] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (text === "" || !live) return;
    desktop.clipboard.send(text);
    setText("");
    setMessage("Paste it in the machine with Ctrl+V.");
  };
  return (
    <div class="clipboard-panel">
      {copied === null ? null : (
        <div>
          <label for="copied-text">Copied in the machine</label>
          <textarea id="copied-text" readOnly rows={2} value={copied.text} />
          <CopyButton text={copied.text} name="the text from the machine" />
        </div>
      )}
      <form onSubmit={submit}>
        <label for="clipboard-text">Text for the machine's clipboard</label>
        <textarea
          id="clipboard-text"
          rows={2}
          value={text}
          maxLength={CLIPBOARD_CHARACTERS_MAX}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => {
            setText(event.currentTarget.value);
            setMessage("");
          }}
        />
        <div class="row">
          <button type="submit" disabled={text === "" || !live}>
            Put into the machine's clipboard
          </button>
          <span role="status" class="muted">
            {message}
          </span>
        </div>
      </form>
    </div>
  );
}
