// Keys that phones lack, and a button that opens the on-screen keyboard. A click leaves the focus where it is, so that the on-screen
// keyboard stays open.

import { useRef } from "preact/hooks";
import type { Desktop } from "../desktop";
import { characterCount, KEYS, textChange, type Key, type KeyTarget } from "../keys";
import { useStore } from "../store";

/** On-screen keyboards send Backspace only if the field contains text, so the field is never empty. */
const FILLER = " ".repeat(24);
const PRESSED = [KEYS.enter, KEYS.backspace, KEYS.tab, KEYS.escape, KEYS.left, KEYS.up, KEYS.down, KEYS.right];
const HELD = [KEYS.control, KEYS.alt];

interface KeysBarProps {
  target: KeyTarget;
  /** "the desktop" */
  name: string;
  openKeyboard: () => void;
}

export function KeysBar({ target, name, openKeyboard }: KeysBarProps) {
  const held_modifiers = useStore(target.held_modifiers);
  const live = useStore(target.live);
  const button = (key: Key, onClick: () => void, pressed?: boolean) => (
    <button
      key={key.code}
      type="button"
      class="key"
      aria-label={key.name ?? key.label}
      disabled={!live}
      onClick={onClick}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
    >
      {key.label}
    </button>
  );
  return (
    <div class="keys-bar" role="toolbar" aria-label={`Keys for ${name}`} onMouseDown={(event) => event.preventDefault()}>
      <button type="button" class="key keyboard" disabled={!live} onClick={openKeyboard}>
        Keyboard
      </button>
      {PRESSED.map((key) => button(key, () => target.pressKey(key)))}
      {HELD.map((key) => button(key, () => target.toggleModifier(key), held_modifiers.includes(key)))}
    </div>
  );
}

/** The keys bar of the desktop, with the field for which the on-screen keyboard opens. */
export function DesktopKeysBar({ desktop }: { desktop: Desktop }) {
  const field = useRef<HTMLTextAreaElement>(null);
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
    const count = characterCount(element.value);
    if (!composing && (count > 200 || count < 4)) resetField(element);
    element.dataset["last"] = element.value;
  };
  const openKeyboard = () => {
    const element = field.current;
    if (element === null) return;
    resetField(element);
    element.dataset["last"] = FILLER;
    element.focus();
  };
  return (
    <div class="keys-bar-area">
      <KeysBar target={desktop} name="the desktop" openKeyboard={openKeyboard} />
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
