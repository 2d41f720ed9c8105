// The tool's terminal: xterm.js on a `TicketedSocket`. Binary frames are the terminal's bytes in both directions; a text frame
// sends the terminal's size.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Xterm, type ITheme } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { styleSpansByCssom, withConstructedSheets } from "./csp";
import { TicketedSocket } from "./socket";
import { Store } from "./store";

const THEME: ITheme = { background: "#14171c", foreground: "#e4e8ee", cursor: "#e4e8ee", selectionBackground: "#3d5a80" };
const SCROLLBACK_LINES = 2_000;

styleSpansByCssom();

export class Terminal {
  /** Whether the terminal has received output on the present connection. */
  readonly live = new Store(false);
  readonly socket: TicketedSocket;
  readonly #element = document.createElement("div");
  readonly #fit_addon = new FitAddon();
  readonly #xterm: Xterm;
  readonly #resize_observer: ResizeObserver;
  #open_socket: WebSocket | null = null;
  #attached = false;

  constructor(session: string) {
    this.#element.className = "terminal-host";
    this.#xterm = new Xterm({
      fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      theme: THEME,
      scrollback: SCROLLBACK_LINES,
      cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
      screenReaderMode: false,
      allowProposedApi: false,
    });
    this.#xterm.loadAddon(this.#fit_addon);
    this.#xterm.onData((text) => this.#send(new TextEncoder().encode(text)));
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

  /** Moves the terminal into `container`; the first call connects it. */
  attach(container: HTMLElement): void {
    if (this.#element.parentElement !== container) container.append(this.#element);
    if (this.#attached) return;
    this.#attached = true;
    withConstructedSheets(document, () => this.#xterm.open(this.#element));
    this.#resize_observer.observe(this.#element);
    this.#fit();
    void this.socket.connect();
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
