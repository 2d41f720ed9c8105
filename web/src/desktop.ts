// The machine's desktop: noVNC on a `TicketedSocket`, so that the page gets the close code of a connection.
//
// One element contains the picture as long as the page exists. It can be moved in the document without losing its connection.

import type RFB from "@novnc/novnc";
import type { Ticket } from "./api";
import { CLOSE_ASK_AGAIN, CLOSE_NOT_SHOWN } from "./close";
import { DesktopClipboard } from "./desktop-clipboard";
import { DesktopResolution, type Resolution } from "./desktop-resolution";
import { DesktopZoom } from "./desktop-zoom";
import { KeyQueue } from "./key-queue";
import { characterCount, type Key, type KeyTarget } from "./keys";
import { quality_level } from "./line-speed";
import { TicketedSocket } from "./socket";
import { Store } from "./store";
import { texts } from "./texts";

/** The close event has this code when noVNC closes the connection. The server's closes have others. */
const CLOSED_BY_NOVNC = 1005;

/** The credentials that the desktop's server requires (by the RFB security type). */
export interface CredentialRequest {
  /** "username", "password", "target". */
  types: readonly string[];
  /** Whether the server rejected earlier credentials. */
  rejected: boolean;
}

export class Desktop implements KeyTarget {
  /** Whether a live picture is on screen. */
  readonly live = new Store(false);
  readonly socket: TicketedSocket;
  /** Set while the server waits for credentials from the user. */
  readonly credential_request = new Store<CredentialRequest | null>(null);
  /** Modifier keys that a button of the page holds down. */
  readonly held_modifiers = new Store<readonly Key[]>([]);
  readonly #element = document.createElement("div");
  /** Is inside `#element`, and larger while only a part is in view. */
  readonly #picture = document.createElement("div");
  readonly zoom = new DesktopZoom(this.#element, this.#picture);
  readonly clipboard = new DesktopClipboard(this.#element);
  /** The class of noVNC, loaded with the first connection. */
  #rfb_class: typeof RFB | null = null;
  #rfb: RFB | null = null;
  /** The user's credentials, for later connections of this page. */
  #credentials: Record<string, string> | null = null;
  #credentials_rejected = false;
  #last_frame: HTMLCanvasElement | null = null;
  readonly #keys = new KeyQueue();
  readonly resolution = new DesktopResolution();
  #is_shown = true;
  #is_typing = false;

  /** @param view_only shows the picture and sends no input; the server enforces this too */
  constructor(
    session: string,
    readonly view_only = false,
  ) {
    this.#element.className = "desktop-host";
    this.#picture.className = "desktop-picture";
    this.#element.append(this.#picture);
    // Before noVNC, which listens on its canvas.
    this.#element.addEventListener("keydown", (event) => this.#onKeyDown(event), { capture: true });
    this.socket = new TicketedSocket(
      session,
      "desktop",
      (socket) => this.#startRfb(socket),
      (code) => this.#onClosed(code),
      view_only,
      () => "",
      () => this.#loadRfb(),
    );
    this.resolution.screen_ratio.subscribe(() => this.#applyResolution());
    // noVNC misses the second of two changes that are close together.
    new ResizeObserver(() => this.#applyResolution()).observe(this.#element);
    this.socket.state.subscribe(({ status }) => {
      // The keyboard cannot scroll a picture that takes no keys any more.
      if (status === "ended" || status === "access_ended") this.zoom.setScale(null);
    });
  }

  /** Moves the picture into `container`. */
  attach(container: HTMLElement): void {
    if (this.#element.parentElement !== container) container.append(this.#element);
    if (this.live.value) this.zoom.start();
  }

  /** Connects. The server accepts the connection before the machine is ready and waits for it, up to a limit. */
  start(ticket?: Promise<Ticket>): void {
    void this.socket.connect(ticket);
  }

  stop(): void {
    this.socket.stop();
    this.#element.remove();
  }

  focus(): void {
    this.#rfb?.focus({ preventScroll: true });
  }

  /** Sets how many pixels the machine's desktop gets, now and when its frame changes. */
  setResolution(resolution: Resolution): void {
    this.resolution.chosen.set(resolution);
    this.zoom.setEnabled(resolution === "own");
    this.#applyResolution();
  }

  /** Sets whether an on-screen keyboard types into the desktop. A tap on the picture leaves it open. */
  setTyping(is_typing: boolean): void {
    this.#is_typing = is_typing;
    if (this.#rfb !== null) this.#rfb.focusOnClick = !is_typing;
    this.zoom.setTyping(is_typing);
  }

  /** A hidden desktop keeps its size. */
  setShown(is_shown: boolean): void {
    this.#is_shown = is_shown;
    this.#applyResolution();
  }

  get #asks_for_size(): boolean {
    return this.resolution.chosen.value !== "own" && this.#is_shown;
  }

  /** Setting `resizeSession` asks for the present size, too. */
  #applyResolution(): void {
    this.resolution.fitPicture(this.#element);
    if (this.#rfb !== null) this.#rfb.resizeSession = this.#asks_for_size;
  }

  /** Answers the credential request. */
  sendCredentials(credentials: Record<string, string>): void {
    this.#credentials = credentials;
    this.credential_request.set(null);
    this.#rfb?.sendCredentials(credentials);
  }

  pressKey(key: Key): void {
    this.#keys.send((rfb) => rfb.sendKey(key.keysym, key.code));
    this.#releaseModifiers();
  }

  /** Types what an on-screen keyboard has sent. */
  typeText(text: string): void {
    this.#keys.type(text);
    this.#releaseModifiers();
  }

  /** Types a text exactly: no keyboard layout and no held modifier changes it. */
  typeExactText(text: string, press_enter: boolean): void {
    this.#releaseModifiers();
    this.typeText(press_enter ? `${text}\n` : text);
  }

  toggleModifier(key: Key): void {
    const held = this.held_modifiers.value;
    const down = !held.includes(key);
    this.#keys.send((rfb) => rfb.sendKey(key.keysym, key.code, down));
    this.held_modifiers.set(down ? [...held, key] : held.filter((other) => other !== key));
  }

  #releaseModifiers(): void {
    const held = this.held_modifiers.value;
    this.#keys.send((rfb) => held.forEach((key) => rfb.sendKey(key.keysym, key.code, false)));
    this.held_modifiers.set([]);
  }

  /** Takes a character from noVNC whose key the machine may lack. */
  #onKeyDown(event: KeyboardEvent): void {
    const is_character = characterCount(event.key) === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!is_character || this.view_only || !this.#keys.needs(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.#keys.type(event.key);
  }

  async #loadRfb(): Promise<void> {
    this.#rfb_class ??= this.resolution.extend((await import("@novnc/novnc")).default);
  }

  #startRfb(socket: WebSocket): void {
    if (this.#rfb_class === null) throw new Error("noVNC is not loaded");
    this.#picture.classList.add("connecting");
    const rfb = new this.#rfb_class(this.#picture, socket, { shared: true });
    rfb.viewOnly = this.view_only;
    rfb.scaleViewport = true;
    rfb.resizeSession = this.#asks_for_size;
    rfb.focusOnClick = !this.#is_typing;
    rfb.qualityLevel = quality_level.value;
    rfb.showDotCursor = true;
    rfb.background = "transparent";
    rfb.addEventListener("connect", () => {
      this.#last_frame?.remove();
      this.#last_frame = null;
      this.#credentials_rejected = false;
      this.zoom.start();
      // noVNC resizes its canvas in the next frame.
      requestAnimationFrame(() => requestAnimationFrame(() => this.#picture.classList.remove("connecting")));
      this.live.set(true);
    });
    const stopFollowing = quality_level.subscribe((level) => {
      rfb.qualityLevel = level;
    });
    rfb.addEventListener("disconnect", () => {
      stopFollowing();
      if (this.#rfb === rfb) this.#rfb = null;
    });
    rfb.addEventListener("securityfailure", () => {
      // After rejected credentials the user is asked again; without any, no attempt can succeed.
      this.#credentials_rejected = this.#credentials !== null;
      this.#credentials = null;
      socket.close(this.#credentials_rejected ? CLOSE_ASK_AGAIN : CLOSE_NOT_SHOWN);
    });
    rfb.addEventListener("credentialsrequired", (event) => this.#onCredentialsRequired(event.detail.types));
    // The page has no means to verify a server's public key.
    rfb.addEventListener("serververification", () => socket.close(CLOSE_NOT_SHOWN));
    // noVNC moves the focus to its canvas.
    const canvas = this.#picture.querySelector("canvas:not(.last-frame)");
    canvas?.setAttribute("role", "application");
    canvas?.setAttribute("aria-label", texts.remote.label);
    this.#rfb = rfb;
    this.#keys.connect(rfb);
    if (!this.view_only) this.clipboard.connect(rfb);
  }

  #onCredentialsRequired(types: readonly string[]): void {
    const known = this.#credentials;
    if (known !== null && types.every((type) => known[type] !== undefined)) this.#rfb?.sendCredentials(known);
    else this.credential_request.set({ types, rejected: this.#credentials_rejected });
  }

  /** noVNC closes a connection that it cannot use. Before the first picture, that is the desktop's kind and not a fault on the way. */
  #onClosed(code: number): number {
    const was_live = this.live.value;
    const rfb = this.#rfb;
    this.#rfb = null;
    this.clipboard.connect(null);
    this.#keys.connect(null);
    this.held_modifiers.set([]);
    this.credential_request.set(null);
    if (this.live.value) this.#keepLastFrame();
    this.live.set(false);
    rfb?.disconnect();
    return code === CLOSED_BY_NOVNC && !was_live ? CLOSE_NOT_SHOWN : code;
  }

  /** After a lost connection, the last picture remains on screen, dimmed, until a new connection is live. */
  #keepLastFrame(): void {
    const canvas = this.#picture.querySelector("canvas");
    if (canvas === null || canvas.width === 0) return;
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.className = "last-frame";
    copy.setAttribute("aria-hidden", "true");
    copy.getContext("2d")?.drawImage(canvas, 0, 0);
    this.#last_frame?.remove();
    this.#last_frame = copy;
    this.#picture.prepend(copy);
  }
}
