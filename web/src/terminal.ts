// The tool's terminal: xterm.js on a `TicketedSocket`. Binary frames are the terminal's bytes in both directions; a text frame
// sends the terminal's size. It is connected only while it is shown: the desktop's own terminal is a view of the same screen, which has
// the size of the view that was used last.

import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon, type ILinkProviderOptions } from "@xterm/addon-web-links";
import { Terminal as Xterm, type ITheme } from "@xterm/xterm";
import xterm_css from "@xterm/xterm/css/xterm.css";
import { adoptStyles, styleSpansByCssom, withConstructedSheets } from "./csp";
import { KEYS, type Key, type KeyTarget } from "./keys";
import { TicketedSocket } from "./socket";
import { Store } from "./store";

const THEME: ITheme = { background: "#14171c", foreground: "#e4e8ee", cursor: "#e4e8ee", selectionBackground: "#3d5a80" };
const SCROLLBACK_LINES = 2_000;
/** With rows as high as the type, the underscores of some fonts (DejaVu) are cut off. */
const LINE_HEIGHT = 1.2;

/** The bytes of keys that have no character. */
const SEQUENCES = new Map<Key, string>([
  [KEYS.escape, "\x1b"],
  [KEYS.tab, "\t"],
  [KEYS.enter, "\r"],
  [KEYS.backspace, "\x7f"],
]);
/** The last characters of the arrow keys' sequences. */
const ARROWS = new Map<Key, string>([
  [KEYS.up, "A"],
  [KEYS.down, "B"],
  [KEYS.right, "C"],
  [KEYS.left, "D"],
]);

/** Opens a link of the terminal. Its text comes from the machine and is untrusted: only http and https are opened. */
function openLink(event: MouseEvent, address: string): void {
  event.preventDefault();
  if (/^https?:\/\//i.test(address)) window.open(address, "_blank", "noopener,noreferrer");
}

/** The text with held modifiers: Control makes a control character of a letter, Alt puts Escape before it. */
export function withModifiers(text: string, has_control: boolean, has_alt: boolean): string {
  const code = text.toUpperCase().charCodeAt(0);
  const is_control = has_control && text.length === 1 && code >= 0x40 && code <= 0x5f;
  return `${has_alt ? "\x1b" : ""}${is_control ? String.fromCharCode(code & 0x1f) : text}`;
}

adoptStyles(document, xterm_css);
styleSpansByCssom();

export class Terminal implements KeyTarget {
  /** Whether the terminal has received output on the present connection. */
  readonly live = new Store(false);
  /** Modifier keys that a button of the page holds down. */
  readonly held_modifiers = new Store<readonly Key[]>([]);
  readonly socket: TicketedSocket;
  readonly #element = document.createElement("div");
  readonly #fit_addon = new FitAddon();
  readonly #xterm: Xterm;
  readonly #resize_observer: ResizeObserver;
  #open_socket: WebSocket | null = null;
  #is_open = false;
  #is_shown = false;

  constructor(session: string) {
    this.#element.className = "terminal-host";
    this.#xterm = new Xterm({
      fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      lineHeight: LINE_HEIGHT,
      theme: THEME,
      linkHandler: { activate: openLink, ...this.#linkTitle() },
      scrollback: SCROLLBACK_LINES,
      cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
      screenReaderMode: false,
      allowProposedApi: false,
    });
    this.#xterm.loadAddon(this.#fit_addon);
    this.#xterm.loadAddon(new WebLinksAddon(openLink, this.#linkTitle()));
    this.#xterm.attachCustomKeyEventHandler((event) => this.#onKey(event));
    this.#xterm.onData((text) => this.#type(text));
    this.#xterm.onBinary((text) => this.#send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
    this.#xterm.onResize((size) => this.#sendSize(size.cols, size.rows));
    this.#resize_observer = new ResizeObserver(() => this.#fit());
    this.socket = new TicketedSocket(
      session,
      "terminal",
      (socket) => this.#onSocket(socket),
      () => this.#onClosed(),
      false,
      // The size is in the URL, because a default size until the first text frame would shrink the same terminal on the desktop.
      () => `?cols=${this.#xterm.cols}&rows=${this.#xterm.rows}`,
    );
  }

  /** Moves the terminal into `container`. */
  attach(container: HTMLElement): void {
    if (this.#element.parentElement !== container) container.append(this.#element);
  }

  /** Connects, after the terminal's element has become visible. */
  show(): void {
    if (!this.#is_open) {
      this.#is_open = true;
      withConstructedSheets(document, () => this.#xterm.open(this.#element));
      this.#resize_observer.observe(this.#element);
    }
    this.#fit();
    if (!this.#is_shown) void this.socket.connect();
    this.#is_shown = true;
  }

  /** Disconnects. */
  hide(): void {
    this.#is_shown = false;
    this.socket.stop();
  }

  /** Ends a back-off early, because the next attempt may succeed now. */
  retryNow(): void {
    if (this.#is_shown) this.socket.retryNow();
  }

  stop(): void {
    this.#resize_observer.disconnect();
    this.socket.stop();
    this.#xterm.dispose();
    this.#element.remove();
  }

  focus(): void {
    this.#xterm.focus();
  }

  pressKey(key: Key): void {
    const arrow = ARROWS.get(key);
    const prefix = this.#xterm.modes.applicationCursorKeysMode ? "\x1bO" : "\x1b[";
    this.#type(arrow === undefined ? (SEQUENCES.get(key) ?? "") : prefix + arrow);
  }

  toggleModifier(key: Key): void {
    const held = this.held_modifiers.value;
    this.held_modifiers.set(held.includes(key) ? held.filter((other) => other !== key) : [...held, key]);
  }

  #type(text: string): void {
    const held = this.held_modifiers.value;
    const typed = withModifiers(text, held.includes(KEYS.control), held.includes(KEYS.alt));
    this.held_modifiers.set([]);
    this.#send(new TextEncoder().encode(typed));
  }

  /** Leaves copy and paste to the browser, whose events xterm.js handles. `false`: xterm.js ignores the key. */
  #onKey(event: KeyboardEvent): boolean {
    if (event.type !== "keydown" || event.ctrlKey === event.metaKey || event.altKey) return true;
    if (event.code === "KeyV") return false;
    if (event.code !== "KeyC") return true;
    if (this.#xterm.hasSelection()) {
      // Ctrl+Shift+C would open the browser's developer tools, so the copy is requested here.
      event.preventDefault();
      document.execCommand("copy");
      this.#xterm.clearSelection();
      return false;
    }
    if (!event.shiftKey) return true;
    event.preventDefault();
    return false;
  }

  /** Shows the address of a link under the pointer: its text may differ. */
  #linkTitle(): Required<Pick<ILinkProviderOptions, "hover" | "leave">> {
    return {
      hover: (_event: MouseEvent, address: string) => {
        this.#element.title = address;
      },
      leave: () => {
        this.#element.title = "";
      },
    };
  }

  #onSocket(socket: WebSocket): void {
    socket.addEventListener("open", () => {
      this.#open_socket = socket;
      this.#sendSize(this.#xterm.cols, this.#xterm.rows);
    });
    socket.addEventListener("message", (event: MessageEvent<unknown>) => {
      if (!(event.data instanceof ArrayBuffer)) return;
      if (!this.live.value) this.#xterm.reset();
      this.live.set(true);
      this.#xterm.write(new Uint8Array(event.data));
    });
  }

  #onClosed(): void {
    this.#open_socket = null;
    this.live.set(false);
  }

  #send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#open_socket?.readyState === WebSocket.OPEN) this.#open_socket.send(bytes);
  }

  #sendSize(cols: number, rows: number): void {
    if (this.#open_socket?.readyState === WebSocket.OPEN) this.#open_socket.send(JSON.stringify({ type: "resize", cols, rows }));
  }

  #fit(): void {
    if (this.#element.clientWidth > 0 && this.#element.clientHeight > 0) this.#fit_addon.fit();
  }
}
