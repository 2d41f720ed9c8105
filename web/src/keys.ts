// Keys as RFB knows them (X keysyms, RFC 6143 §7.5.4), and what an on-screen keyboard did to a text field.

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

/** The keysym of one character: Latin-1 is itself, all else is Unicode by the rule of X. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  if (point === 0x0a || point === 0x0d) return KEYS.enter.keysym;
  if (point === 0x09) return KEYS.tab.keysym;
  return point <= 0xff ? point : 0x01000000 + point;
}

/**
 * What was typed, from a text field's value before and after. On-screen keyboards report whole words, corrections and
 * predictions, never reliable key events.
 */
export function typed(before: string, after: string): { backspaces: number; text: string } {
  const was = [...before];
  const is = [...after];
  let same = 0;
  while (same < was.length && same < is.length && was[same] === is[same]) same += 1;
  return { backspaces: was.length - same, text: is.slice(same).join("") };
}
