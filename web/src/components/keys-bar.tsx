// Keys that phones lack, and a button that opens the on-screen keyboard. A click leaves the focus where it is, so that the on-screen
// keyboard stays open.

import { useCallback, useEffect, useRef } from "preact/hooks";
import type { Desktop } from "../desktop";
import { characterCount, KEYS, textChange, type Key, type KeyTarget } from "../keys";
import { useStore } from "../store";
import { texts } from "../texts";

/** On-screen keyboards send Backspace only if the field contains text, so the field is never empty. */
const FILLER = " ".repeat(24);
const PRESSED = [KEYS.enter, KEYS.backspace, KEYS.tab, KEYS.escape, KEYS.left, KEYS.up, KEYS.down, KEYS.right];
const HELD = [KEYS.control, KEYS.alt];

interface KeysBarProps {
  target: KeyTarget;
  of: "desktop" | "terminal";
  openKeyboard: () => void;
  /** Called when the on-screen keyboard has changed what is in view, and these keys are above it. */
  onKeyboard?: () => void;
}

/** Whether the focus is where an on-screen keyboard types into the machine. */
function isTyping(): boolean {
  return document.activeElement?.closest(".keyboard-input, .terminal-host") != null;
}

/** Keeps an element above the on-screen keyboard while a person types, and what is above it in view. */
function useAboveKeyboard(onKeyboard: (() => void) | undefined) {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const onResize = () => {
      if (!isTyping()) return;
      element.current?.scrollIntoView({ block: "end" });
      onKeyboard?.();
    };
    window.visualViewport?.addEventListener("resize", onResize);
    return () => window.visualViewport?.removeEventListener("resize", onResize);
  }, [onKeyboard]);
  return element;
}

export function KeysBar({ target, of, openKeyboard, onKeyboard }: KeysBarProps) {
  const bar = useAboveKeyboard(onKeyboard);
  const held_modifiers = useStore(target.held_modifiers);
  const live = useStore(target.live);
  const button = (key: Key, onClick: () => void, pressed?: boolean) => (
    <button
      key={key.code}
      type="button"
      class="key"
      aria-label={key.name === undefined ? key.label : texts.remote.key_names[key.name]}
      disabled={!live}
      onClick={onClick}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
    >
      {key.label}
    </button>
  );
  return (
    <div ref={bar} class="keys-bar" role="toolbar" aria-label={texts.remote.keys_for[of]} onMouseDown={(event) => event.preventDefault()}>
      <button type="button" class="key keyboard" disabled={!live} onClick={openKeyboard}>
        {texts.remote.keyboard}
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
  const onKeyboard = useCallback(() => desktop.zoom.showTapped(), [desktop]);
  const openKeyboard = () => {
    const element = field.current;
    if (element === null) return;
    resetField(element);
    element.dataset["last"] = FILLER;
    element.focus();
  };
  return (
    <div class="keys-bar-area">
      <KeysBar target={desktop} of="desktop" openKeyboard={openKeyboard} onKeyboard={onKeyboard} />
      <textarea
        ref={field}
        class="keyboard-input"
        aria-label={texts.remote.typed_here}
        tabIndex={-1}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        onInput={onInput}
        onFocus={() => desktop.setTyping(true)}
        onBlur={() => desktop.setTyping(false)}
      />
    </div>
  );
}
