// The machine's clipboard and the person's.
//
//   machine ─▶ person   a text that is copied in the machine is kept for the page to show. It goes into the person's clipboard only right
//                       after a key or click in the desktop, because a page in the machine could otherwise replace the person's clipboard
//   person ─▶ machine   Ctrl+V (Cmd+V) in the desktop: the browser's `paste` event has the text. It is sent as the machine's clipboard
//                       before the key, so that the paste in the machine uses it. Or a form of the page sends a text

import type RFB from "@novnc/novnc";
import { KEYS, KEYSYMS } from "./keys";
import { Store } from "./store";

/** A longer text of the machine is not kept, and a longer one of the person is not sent. */
export const CLIPBOARD_CHARACTERS_MAX = 65_536;
/** How long after a key or click in the desktop a copied text goes into the person's clipboard. Machines may be slow. */
const COPY_AFTER_INPUT_MS = 5_000;

/** A text that was copied in the machine. */
export interface CopiedText {
  text: string;
  /** Whether the person's clipboard has it. */
  is_copied: boolean;
}

interface PasteKey {
  code: string;
  keysym: number;
  /** Whether it was pressed with Command, not Control. */
  has_command: boolean;
}

export class DesktopClipboard {
  /** The last text that was copied in the machine; `null` if there was none. */
  readonly copied = new Store<CopiedText | null>(null);
  #rfb: RFB | null = null;
  #last_input_ms = Number.NEGATIVE_INFINITY;
  /** A pressed Ctrl+V whose `paste` event has not come yet. */
  #awaited_paste: PasteKey | null = null;

  /** @param element contains the desktop */
  constructor(element: HTMLElement) {
    const onInput = () => {
      this.#last_input_ms = performance.now();
    };
    element.addEventListener("pointerdown", onInput, { capture: true });
    element.addEventListener("keydown", onInput, { capture: true });
    element.addEventListener("keydown", (event) => this.#onKeyDown(event), { capture: true });
    element.addEventListener("keyup", (event) => this.#onKeyUp(event), { capture: true });
    // The event's target is the body if no element of the page can be edited.
    document.addEventListener("paste", (event) => this.#onPaste(event), { capture: true });
  }

  /** Uses this connection; `null`: there is none. */
  connect(rfb: RFB | null): void {
    this.#rfb = rfb;
    this.#awaited_paste = null;
    rfb?.addEventListener("clipboard", (event) => this.#onCopied(event.detail.text));
  }

  /** Sets the machine's clipboard. */
  send(text: string): void {
    this.#rfb?.clipboardPasteFrom(text);
  }

  #onCopied(text: string): void {
    if (text === "" || text.length > CLIPBOARD_CHARACTERS_MAX) return;
    const copied = { text, is_copied: false };
    this.copied.set(copied);
    if (performance.now() - this.#last_input_ms > COPY_AFTER_INPUT_MS || !document.hasFocus()) return;
    // Without the API (plain http) or without permission, the page's form has the text.
    navigator.clipboard?.writeText(text).then(
      () => {
        if (this.copied.value === copied) this.copied.set({ text, is_copied: true });
      },
      () => undefined,
    );
  }

  /** Keeps Ctrl+V from noVNC, which would suppress the browser's `paste` event. */
  #onKeyDown(event: KeyboardEvent): void {
    const has_modifier = event.ctrlKey !== event.metaKey && !event.altKey;
    if (!has_modifier || event.key.toLowerCase() !== "v" || this.#rfb === null) return;
    event.stopImmediatePropagation();
    if (event.repeat) return;
    this.#awaited_paste = { code: event.code, keysym: event.shiftKey ? KEYSYMS.V : KEYSYMS.v, has_command: event.metaKey };
  }

  /** No `paste` event has come. The machine gets the key alone. */
  #onKeyUp(event: KeyboardEvent): void {
    if (event.code === this.#awaited_paste?.code) this.#pressPasteKey(this.#awaited_paste);
  }

  #onPaste(event: ClipboardEvent): void {
    const awaited = this.#awaited_paste;
    if (awaited === null) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (text !== "" && text.length <= CLIPBOARD_CHARACTERS_MAX) this.send(text);
    this.#pressPasteKey(awaited);
  }

  #pressPasteKey({ code, keysym, has_command }: PasteKey): void {
    this.#awaited_paste = null;
    const rfb = this.#rfb;
    if (rfb === null) return;
    if (has_command) {
      // noVNC sends the Command keys of a Mac as these.
      rfb.sendKey(KEYS.alt.keysym, "MetaLeft", false);
      rfb.sendKey(KEYSYMS.super_left, "MetaRight", false);
    }
    // noVNC may not have sent Control yet: on Windows it waits whether AltGr follows.
    rfb.sendKey(KEYS.control.keysym, KEYS.control.code, true);
    rfb.sendKey(keysym, code);
    if (has_command) rfb.sendKey(KEYS.control.keysym, KEYS.control.code, false);
  }
}
