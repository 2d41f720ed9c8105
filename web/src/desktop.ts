// The machine's desktop: noVNC on a socket of ours, so that the page hears why a connection closed.
//
// One element holds the picture for the page's whole life; it is moved between places and keeps its connection.

import RFB from "@novnc/novnc";
import { keysymOf, type Key } from "./keys";
import { TicketedSocket } from "./socket";
import { Store } from "./store";

/** Our own close code: what answers is not a desktop that this page can show. */
const NOT_RFB = 4000;

export class Desktop {
  /** Whether a live picture is on screen. */
  readonly shown = new Store(false);
  readonly socket: TicketedSocket;
  readonly #host = document.createElement("div");
  #rfb: RFB | null = null;
  #ghost: HTMLCanvasElement | null = null;
  /** Modifier keys that are held down by a button of ours. */
  readonly held = new Store<readonly Key[]>([]);

  constructor(session: string) {
    this.#host.className = "desktop-host";
    this.socket = new TicketedSocket(
      session,
      "desktop",
      (socket) => this.#take(socket),
      () => this.#lose(),
    );
  }

  /** Puts the picture into `place`. */
  attach(place: HTMLElement): void {
    if (this.#host.parentElement !== place) place.append(this.#host);
  }

  /** Connects at once: the server waits, within a bound, for the machine. */
  start(): void {
    void this.socket.connect();
  }

  stop(): void {
    this.socket.stop();
    this.#host.remove();
  }

  focus(): void {
    this.#rfb?.focus({ preventScroll: true });
  }

  /** Presses and releases one key, then lets go of held modifiers. */
  press(key: Key): void {
    this.#rfb?.sendKey(key.keysym, key.code);
    this.#release();
  }

  type(text: string): void {
    for (const character of text) this.#rfb?.sendKey(keysymOf(character), null);
    this.#release();
  }

  /** Holds a modifier down until the next key, or lets it go. */
  toggle(key: Key): void {
    const held = this.held.value;
    const down = !held.includes(key);
    this.#rfb?.sendKey(key.keysym, key.code, down);
    this.held.set(down ? [...held, key] : held.filter((other) => other !== key));
  }

  #release(): void {
    for (const key of this.held.value) this.#rfb?.sendKey(key.keysym, key.code, false);
    this.held.set([]);
  }

  #take(socket: WebSocket): void {
    const rfb = new RFB(this.#host, socket, { shared: true });
    rfb.scaleViewport = true;
    rfb.resizeSession = false;
    rfb.showDotCursor = true;
    rfb.background = "transparent";
    rfb.addEventListener("connect", () => {
      this.#ghost?.remove();
      this.#ghost = null;
      this.shown.set(true);
    });
    rfb.addEventListener("disconnect", () => {
      if (this.#rfb === rfb) this.#rfb = null;
    });
    // A server that is no RFB server, or wants a password: nothing a person could answer, so try again.
    rfb.addEventListener("securityfailure", () => socket.close(NOT_RFB));
    rfb.addEventListener("credentialsrequired", () => socket.close(NOT_RFB));
    this.#rfb = rfb;
  }

  #lose(): void {
    const rfb = this.#rfb;
    this.#rfb = null;
    this.held.set([]);
    if (this.shown.value) this.#keepLastPicture();
    this.shown.set(false);
    rfb?.disconnect();
  }

  /** A lost connection leaves its last picture on screen, dimmed, until there is a new one. */
  #keepLastPicture(): void {
    const canvas = this.#host.querySelector("canvas");
    if (canvas === null || canvas.width === 0) return;
    const ghost = document.createElement("canvas");
    ghost.width = canvas.width;
    ghost.height = canvas.height;
    ghost.className = "ghost";
    ghost.setAttribute("aria-hidden", "true");
    ghost.getContext("2d")?.drawImage(canvas, 0, 0);
    this.#ghost?.remove();
    this.#ghost = ghost;
    this.#host.prepend(ghost);
  }
}
