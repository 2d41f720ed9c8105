// The machine's clipboard: the last text that was copied there, and a form that puts a text into it. For browsers and pages (plain http)
// that do not let a page use the person's clipboard.

import { useState } from "preact/hooks";
import type { Desktop } from "../desktop";
import { CLIPBOARD_CHARACTERS_MAX } from "../desktop-clipboard";
import { useStore } from "../store";
import { texts } from "../texts";
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
    setMessage(texts.remote.paste_there);
  };
  return (
    <div class="clipboard-panel">
      {copied === null ? null : (
        <div>
          <label for="copied-text">{texts.remote.copied_there}</label>
          <textarea id="copied-text" readOnly rows={2} value={copied.text} />
          <CopyButton text={copied.text} name={texts.remote.copied_text} />
        </div>
      )}
      <form onSubmit={submit}>
        <label for="clipboard-text">{texts.remote.text_for_clipboard}</label>
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
          <button type="submit" aria-disabled={text === "" || !live}>
            {texts.remote.put_into_clipboard}
          </button>
          <span role="status" class="muted">
            {message}
          </span>
        </div>
      </form>
    </div>
  );
}
