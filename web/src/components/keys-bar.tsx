// Keys that phones lack, and a button that opens the phone's on-screen keyboard.

import { useRef } from "preact/hooks";
import type { Desktop } from "../desktop";
import { KEYS, textChange, type Key } from "../keys";
import { useStore } from "../store";

/** On-screen keyboards send Backspace only if the field contains text, so the field is never empty. */
const FILLER = " ".repeat(24);

export function KeysBar({ desktop }: { desktop: Desktop }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const held_modifiers = useStore(desktop.held_modifiers);
  const live = useStore(desktop.live);

  const resetField = (element: HTMLTextAreaElement) => {
    element.value = FILLER;
    element.setSelectionRange(FILLER.length, FILLER.length);
  };
  const onInput = (event: Event & { currentTarget: HTMLTextAreaElement }) => {
    const element = event.currentTarget;
    const change = textChange(element.dataset["last"] ?? FILLER, element.value);
    for (let count = 0; count < change.backspaces; count += 1) desktop.pressKey(KEYS.backspace);
    if (change.text !== "") desktop.typeText(change.text);
    const composing = event instanceof InputEvent && event.isComposing;
    if (!composing && (element.value.length > 200 || element.value.length < 4)) resetField(element);
    element.dataset["last"] = element.value;
  };
  const openKeyboard = () => {
    const element = field.current;
    if (element === null) return;
    resetField(element);
    element.dataset["last"] = FILLER;
    element.focus();
  };
  const modifierButton = (key: Key) => (
    <button
      type="button"
      class="key"
      aria-pressed={held_modifiers.includes(key)}
      disabled={!live}
      onClick={() => desktop.toggleModifier(key)}
    >
      {key.label}
    </button>
  );
  const keyButton = (key: Key) => (
    <button type="button" class="key" disabled={!live} onClick={() => desktop.pressKey(key)}>
      {key.label}
    </button>
  );
  return (
    <div class="keys-bar" role="toolbar" aria-label="Keys for the desktop">
      <button type="button" class="key keyboard" disabled={!live} onClick={openKeyboard}>
        Keyboard
      </button>
      {keyButton(KEYS.escape)}
      {keyButton(KEYS.tab)}
      {modifierButton(KEYS.control)}
      {modifierButton(KEYS.alt)}
      <textarea
        ref={field}
        class="keyboard-input"
        aria-label="Text is sent to the machine's desktop as you type"
        tabIndex={-1}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        onInput={onInput}
      />
    </div>
  );
}
