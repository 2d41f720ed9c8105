// The machine's desktop: noVNC on a socket of ours, so that the page hears why a connection closed.
//
// One element holds the picture for the page's whole life; it is moved between places and keeps its connection.

import RFB from "@novnc/novnc";
import { keysymOf, type Key } from "./keys";
import { TicketedSocket } from "./socket";
import { Store } from "./store";

/** Our own close code: what answers is not a desktop that this page can show. */
const NOT_RFB = 4000;

/** What a desktop's server wants to know before it shows anything (RFB's security types decide). */
export interface Asked {
  /** "username", "password", "target". */
  types: readonly string[];
  /** Whether an answer was tried before and not accepted. */
  refused: boolean;
}

export class Desktop {
  /** Whether a live picture is on screen. */
  readonly shown = new Store(false);
  readonly socket: TicketedSocket;
  readonly #host = document.createElement("div");
  /** What the server asks the person for, while it waits for that. */
  readonly asked = new Store<Asked | null>(null);
  #rfb: RFB | null = null;
  /** What the person answered: for connections that come later, in this page only. */
  #answer: Record<string, string> | null = null;
  #refused = false;
  #ghost: HTMLCanvasElement | null = null;
  /** Modifier keys that are held down by a button of ours. */
  readonly held = new Store<readonly Key[]>([]);

  /** @param view_only shows the picture and sends nothing that acts; the server sees to the same */
  constructor(
    session: string,
    readonly view_only = false,
  ) {
    this.#host.className = "desktop-host";
    this.socket = new TicketedSocket(
      session,
      "desktop",
      (socket) => this.#take(socket),
      () => this.#lose(),
      view_only,
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

  /** Answers what was asked. */
  answer(given: Record<string, string>): void {
    this.#answer = given;
    this.asked.set(null);
    this.#rfb?.sendCredentials(given);
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
    rfb.viewOnly = this.view_only;
    rfb.scaleViewport = true;
    rfb.resizeSession = false;
    rfb.showDotCursor = true;
    rfb.background = "transparent";
    rfb.addEventListener("connect", () => {
      this.#ghost?.remove();
      this.#ghost = null;
      this.#refused = false;
      this.shown.set(true);
    });
    rfb.addEventListener("disconnect", () => {
      if (this.#rfb === rfb) this.#rfb = null;
    });
    rfb.addEventListener("securityfailure", () => {
      // A password that is not accepted is asked for anew; a server that is no RFB server is tried again.
      this.#refused = this.#answer !== null;
      this.#answer = null;
      socket.close(NOT_RFB);
    });
    rfb.addEventListener("credentialsrequired", (event) => this.#ask(event.detail.types));
    // A server's key that nobody here can check.
    rfb.addEventListener("serververification", () => socket.close(NOT_RFB));
    this.#rfb = rfb;
  }

  #ask(types: readonly string[]): void {
    const known = this.#answer;
    if (known !== null && types.every((type) => known[type] !== undefined)) this.#rfb?.sendCredentials(known);
    else this.asked.set({ types, refused: this.#refused });
  }

  #lose(): void {
    const rfb = this.#rfb;
    this.#rfb = null;
    this.held.set([]);
    this.asked.set(null);
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
