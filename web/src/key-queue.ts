// Keys on their path to a machine's X server, some of which the server has to make first.
//
// The server makes a key for a character that its keyboard layout lacks when it is pressed for the first time, and programs with GTK
// (Chromium) lose that press, because they read the changed layout too late. So each such key is pressed once with Control, with which it
// types nothing, and what is typed waits until the programs have read the layout.

import type RFB from "@novnc/novnc";
import { isInEveryLayout, KEYS, keysymOf } from "./keys";

/** How long a program may take to read a changed layout. A program that takes longer is busy, and reads it before the next key. */
const LAYOUT_CHANGE_MS = 150;

export class KeyQueue {
  #rfb: RFB | null = null;
  /** The keys that the machine of the present connection has got from this page. */
  readonly #made_keysyms = new Set<number>();
  /** What waits for a changed layout, in order. */
  #waiting: ((rfb: RFB) => void)[] = [];
  #timer: number | undefined;

  /** Uses this connection; `null`: there is none, and what waits is dropped. */
  connect(rfb: RFB | null): void {
    this.#rfb = rfb;
    this.#made_keysyms.clear();
    this.#waiting = [];
    window.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Sends keys after those before them. */
  send(keys: (rfb: RFB) => void): void {
    if (this.#timer !== undefined) this.#waiting.push(keys);
    else if (this.#rfb !== null) keys(this.#rfb);
  }

  /** Types a text by keysyms, which no keyboard layout changes. */
  type(text: string): void {
    const keysyms = [...text].map(keysymOf);
    this.#makeKeys(keysyms);
    this.send((rfb) => {
      for (const keysym of keysyms) rfb.sendKey(keysym, null);
    });
  }

  /** Whether this character has to be typed by this queue: its key has to be made, or others wait. */
  needs(character: string): boolean {
    return this.#timer !== undefined || this.#isLacking(keysymOf(character));
  }

  #isLacking(keysym: number): boolean {
    return !isInEveryLayout(keysym) && !this.#made_keysyms.has(keysym);
  }

  #makeKeys(keysyms: readonly number[]): void {
    const lacking = [...new Set(keysyms)].filter((keysym) => this.#isLacking(keysym));
    const rfb = this.#rfb;
    if (rfb === null || lacking.length === 0) return;
    rfb.sendKey(KEYS.control.keysym, KEYS.control.code, true);
    for (const keysym of lacking) {
      rfb.sendKey(keysym, null);
      this.#made_keysyms.add(keysym);
    }
    rfb.sendKey(KEYS.control.keysym, KEYS.control.code, false);
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#flush(), LAYOUT_CHANGE_MS);
  }

  #flush(): void {
    this.#timer = undefined;
    for (const keys of this.#waiting.splice(0)) this.send(keys);
  }
}
