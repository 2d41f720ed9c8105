// Keys of the RFB protocol (X keysyms, RFC 6143 §7.5.4), and the changes that an on-screen keyboard makes to a text field.

import type { Store } from "./store";
import type { Texts } from "./texts";

export interface Key {
  /** What the button shows. */
  label: string;
  /** Its accessible name in the catalogue, where the label is a symbol. */
  name?: keyof Texts["remote"]["key_names"];
  keysym: number;
  /** The `KeyboardEvent.code` of the physical key. */
  code: string;
}

export const KEYS = {
  escape: { label: "Esc", keysym: 0xff1b, code: "Escape" },
  tab: { label: "Tab", keysym: 0xff09, code: "Tab" },
  control: { label: "Ctrl", keysym: 0xffe3, code: "ControlLeft" },
  alt: { label: "Alt", keysym: 0xffe9, code: "AltLeft" },
  enter: { label: "Enter", keysym: 0xff0d, code: "Enter" },
  backspace: { label: "⌫", name: "backspace", keysym: 0xff08, code: "Backspace" },
  left: { label: "←", name: "left", keysym: 0xff51, code: "ArrowLeft" },
  up: { label: "↑", name: "up", keysym: 0xff52, code: "ArrowUp" },
  right: { label: "→", name: "right", keysym: 0xff53, code: "ArrowRight" },
  down: { label: "↓", name: "down", keysym: 0xff54, code: "ArrowDown" },
} as const satisfies Record<string, Key>;

/** Keysyms of keys that have no button. */
export const KEYSYMS = { v: 0x76, V: 0x56, super_left: 0xffeb } as const;

/** Receives the keys of a keys bar: the desktop or the terminal. */
export interface KeyTarget {
  /** Whether it is connected. */
  readonly live: Store<boolean>;
  /** The modifiers that are held until the next key. */
  readonly held_modifiers: Store<readonly Key[]>;
  /** Presses and releases one key, then releases the held modifiers. */
  pressKey(key: Key): void;
  /** Holds a modifier down until the next key, or releases it. */
  toggleModifier(key: Key): void;
}

/** The number of characters (code points) of a text. */
export function characterCount(text: string): number {
  return [...text].length;
}

/** The X keysym of one character: the code point for Latin-1, 0x01000000 + the code point otherwise. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  if (point === 0x0a || point === 0x0d) return KEYS.enter.keysym;
  if (point === 0x09) return KEYS.tab.keysym;
  return point <= 0xff ? point : 0x01000000 + point;
}

/** Whether every keyboard layout has a key for it: ASCII and the keys without a character. */
export function isInEveryLayout(keysym: number): boolean {
  return (keysym >= 0x20 && keysym <= 0x7e) || (keysym >= 0xff00 && keysym <= 0xffff);
}

/**
 * Returns the key presses that change a text field's value from `before` to `after`. On-screen keyboards send words, corrections
 * and predictions, and no reliable key events.
 */
export function textChange(before: string, after: string): { backspaces: number; text: string } {
  const old_characters = [...before];
  const new_characters = [...after];
  let common = 0;
  while (common < old_characters.length && common < new_characters.length && old_characters[common] === new_characters[common]) {
    common += 1;
  }
  return { backspaces: old_characters.length - common, text: new_characters.slice(common).join("") };
}
