// Keys of the RFB protocol (X keysyms, RFC 6143 §7.5.4), and the changes that an on-screen keyboard makes to a text field.

export interface Key {
  label: string;
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
  backspace: { label: "Backspace", keysym: 0xff08, code: "Backspace" },
} as const satisfies Record<string, Key>;

/** The X keysym of one character: the code point for Latin-1, 0x01000000 + the code point otherwise. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  if (point === 0x0a || point === 0x0d) return KEYS.enter.keysym;
  if (point === 0x09) return KEYS.tab.keysym;
  return point <= 0xff ? point : 0x01000000 + point;
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
