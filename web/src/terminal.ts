// The tool's terminal: xterm.js over a socket of ours. Binary frames are the terminal's bytes, both ways; a text frame
// tells the terminal's size.

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
  readonly shown = new Store(false);
  readonly socket: TicketedSocket;
  readonly #host = document.createElement("div");
  readonly #fit = new FitAddon();
  readonly #xterm: Xterm;
  readonly #watch: ResizeObserver;
  #live: WebSocket | null = null;
  #opened = false;

  constructor(session: string) {
    this.#host.className = "terminal-host";
    this.#xterm = new Xterm({
      fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      theme: THEME,
      scrollback: SCROLLBACK_LINES,
      cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
      screenReaderMode: false,
      allowProposedApi: false,
    });
    this.#xterm.loadAddon(this.#fit);
    this.#xterm.onData((text) => this.#send(new TextEncoder().encode(text)));
    this.#xterm.onBinary((text) => this.#send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
    this.#xterm.onResize((size) => this.#tellSize(size.cols, size.rows));
    this.#watch = new ResizeObserver(() => this.#refit());
    this.socket = new TicketedSocket(
      session,
      "terminal",
      (socket) => this.#take(socket),
      () => this.#lose(),
      false,
      // As large as it is from the first byte on: a size of its own for a moment would shrink the same terminal on the desktop.
      () => `?cols=${this.#xterm.cols}&rows=${this.#xterm.rows}`,
    );
  }

  /** Puts the terminal into `place` and connects it, the first time. */
  attach(place: HTMLElement): void {
    if (this.#host.parentElement !== place) place.append(this.#host);
    if (this.#opened) return;
    this.#opened = true;
    withConstructedSheets(document, () => this.#xterm.open(this.#host));
    this.#watch.observe(this.#host);
    this.#refit();
    void this.socket.connect();
  }

  stop(): void {
    this.#watch.disconnect();
    this.socket.stop();
    this.#xterm.dispose();
    this.#host.remove();
  }

  focus(): void {
    this.#xterm.focus();
  }

  /** Sends text as if it had been typed. */
  type(text: string): void {
    this.#send(new TextEncoder().encode(text));
  }

  #take(socket: WebSocket): void {
    socket.addEventListener("open", () => {
      this.#live = socket;
      this.#tellSize(this.#xterm.cols, this.#xterm.rows);
    });
    socket.addEventListener("message", (event: MessageEvent<unknown>) => {
      if (!(event.data instanceof ArrayBuffer)) return;
      if (!this.shown.value) this.#xterm.reset();
      this.shown.set(true);
      this.#xterm.write(new Uint8Array(event.data));
    });
  }

  #lose(): void {
    this.#live = null;
    this.shown.set(false);
  }

  #send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#live?.readyState === WebSocket.OPEN) this.#live.send(bytes);
  }

  #tellSize(cols: number, rows: number): void {
    if (this.#live?.readyState === WebSocket.OPEN) this.#live.send(JSON.stringify({ type: "resize", cols, rows }));
  }

  #refit(): void {
    if (this.#host.clientWidth > 0 && this.#host.clientHeight > 0) this.#fit.fit();
  }
}
