// Keys that phones do not have, and the phone's own keyboard for a picture that cannot call it up.

import { useRef } from "preact/hooks";
import type { Desktop } from "../desktop";
import { KEYS, typed, type Key } from "../keys";
import { useStore } from "../store";

/** On-screen keyboards erase only what they believe is there: so something always is. */
const FILLER = " ".repeat(24);

export function KeysBar({ desktop }: { desktop: Desktop }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const held = useStore(desktop.held);
  const live = useStore(desktop.shown);

  const reset = (element: HTMLTextAreaElement) => {
    element.value = FILLER;
    element.setSelectionRange(FILLER.length, FILLER.length);
  };
  const input = (event: Event & { currentTarget: HTMLTextAreaElement }) => {
    const element = event.currentTarget;
    const change = typed(element.dataset["last"] ?? FILLER, element.value);
    for (let count = 0; count < change.backspaces; count += 1) desktop.press(KEYS.backspace);
    if (change.text !== "") desktop.type(change.text);
    const composing = event instanceof InputEvent && event.isComposing;
    if (!composing && (element.value.length > 200 || element.value.length < 4)) reset(element);
    element.dataset["last"] = element.value;
  };
  const hold = (key: Key) => (
    <button type="button" class="key" aria-pressed={held.includes(key)} disabled={!live} onClick={() => desktop.toggle(key)}>
      {key.label}
    </button>
  );
  const press = (key: Key) => (
    <button type="button" class="key" disabled={!live} onClick={() => desktop.press(key)}>
      {key.label}
    </button>
  );
  return (
    <div class="keys" role="toolbar" aria-label="Keys for the desktop">
      <button
        type="button"
        class="key keyboard"
        disabled={!live}
        onClick={() => {
          const element = field.current;
          if (element === null) return;
          reset(element);
          element.dataset["last"] = FILLER;
          element.focus();
        }}
      >
        Keyboard
      </button>
      {press(KEYS.escape)}
      {press(KEYS.tab)}
      {hold(KEYS.control)}
      {hold(KEYS.alt)}
      <textarea
        ref={field}
        class="phone-field"
        aria-label="Text goes to the machine's desktop as you type"
        tabIndex={-1}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        onInput={input}
      />
    </div>
  );
}
