// A WebSocket that is opened with a ticket, exposes its close reason and reconnects when the close code allows it.
//
//   ticket ─▶ socket ─▶ open ─▶ closed(code) ─▶ close.ts decides: reconnect · new ticket · ended · stop

import type { AccessEndCode } from "./access-ended";
import { api, ApiError, paths, type Problem, type Ticket, type TicketTarget } from "./api";
import { backoff_ms, closeAction, maxBackoff_ms, type CloseAction } from "./close";
import { Store } from "./store";
import { texts } from "./texts";

/** `message` is for the user. */
export type SocketState =
  | { status: "connecting"; attempt: number }
  /** The first bytes may arrive later: the server waits for the machine. */
  | { status: "open" }
  /** Waiting for the next attempt. */
  | { status: "waiting"; message: string; attempt: number }
  /** `can_retry`: the user may connect again. */
  | { status: "stopped"; message: string; can_retry: boolean }
  /** The caller was revoked or has expired. */
  | { status: "access_ended"; close_code: AccessEndCode }
  /** The session has ended. */
  | { status: "ended"; message: string };

const CODE_NOT_LOADED: Problem = {
  code: "code_not_loaded",
  sentence: "A part of this page did not load. If this stays, reload the page.",
  remedy: "Reload the page.",
  get for_person() {
    return texts.closed.lost;
  },
  close_code: 1006,
};

function socketUrl(session: string, target: TicketTarget, query: string): string {
  const path = target === "desktop" ? paths.desktopSocket(session) : paths.terminalSocket(session);
  const url = new URL(path, window.location.href);
  url.search = query;
  // Behind a TLS proxy the page's own protocol is https.
  url.protocol = window.location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** The action after a failed ticket request. */
function ticketErrorAction(error: unknown): CloseAction {
  if (!(error instanceof ApiError)) return closeAction(4500, "", true);
  const { sentence, detail, code, close_code } = error.problem;
  if (error.status === 0) return { kind: "reconnect", message: sentence, fast: true };
  // 429 is a rate limit: retry later. Its close code 4429 would mean too many viewers.
  if (error.status === 429) return { kind: "reconnect", message: sentence };
  // A further attempt would fail the same way until the operator changes the proxy.
  if (code === "proxy_without_upgrade") return { kind: "stop", message: sentence, can_retry: true };
  // The detail says when another host takes over.
  const reason = code === "host_unreachable" ? (detail ?? sentence) : sentence;
  return closeAction(close_code, `${code}: ${reason}`, true);
}

export class TicketedSocket {
  readonly state = new Store<SocketState>({ status: "connecting", attempt: 0 });
  #socket: WebSocket | null = null;
  #attempt = 0;
  #ticket_renewed = false;
  #retry_timer: number | undefined;
  /** Incremented for each connection, so that a late response for an abandoned one is ignored. */
  #connection_number = 0;

  /**
   * @param onSocket is called with each new socket while it is connecting; it may set the socket's `on…` properties
   * @param onClosed is called after each connection with its close code; it may return another code, which decides what is next
   * @param view_only the server must not forward input
   * @param query returns the query of the URL, computed for each connection
   * @param loadCode loads what `onSocket` needs, while the ticket is requested
   */
  constructor(
    private readonly session: string,
    private readonly target: TicketTarget,
    private readonly onSocket: (socket: WebSocket) => void,
    private readonly onClosed: (code: number) => number | void = () => {},
    private readonly view_only = false,
    private readonly query: () => string = () => "",
    private readonly loadCode: () => Promise<void> = () => Promise.resolve(),
  ) {}

  /** Connects now and replaces the present connection. @param requested a ticket that was requested already */
  async connect(requested?: Promise<Ticket>): Promise<void> {
    this.#closeSocket();
    const connection_number = this.#connection_number;
    this.state.set({ status: "connecting", attempt: this.#attempt });
    let ticket: string;
    try {
      const request = this.view_only ? { purpose: this.target, view_only: true } : { purpose: this.target };
      const [created] = await Promise.all([requested ?? api.createTicket(this.session, request), this.#load()]);
      ticket = created.ticket;
    } catch (error) {
      if (connection_number === this.#connection_number) this.#perform(ticketErrorAction(error));
      return;
    }
    if (connection_number !== this.#connection_number) return;
    const socket = new WebSocket(socketUrl(this.session, this.target, this.query()), ["binary", `ticket.${ticket}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => this.state.set({ status: "open" }));
    socket.addEventListener("message", () => this.#onFirstMessage(), { once: true });
    socket.addEventListener("close", (event) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      const code = this.onClosed(event.code) ?? event.code;
      this.#perform(closeAction(code, event.reason, this.#ticket_renewed));
    });
    this.onSocket(socket);
  }

  async #load(): Promise<void> {
    try {
      await this.loadCode();
    } catch {
      throw new ApiError(CODE_NOT_LOADED, 0);
    }
  }

  /** Ends a back-off early, because the next attempt may succeed now. */
  retryNow(): void {
    if (this.state.value.status === "waiting") void this.connect();
  }

  /** Closes the connection; only `connect` opens another. */
  stop(): void {
    this.#closeSocket();
  }

  /** The connection works: reset the back-off. */
  #onFirstMessage(): void {
    this.#attempt = 0;
    this.#ticket_renewed = false;
  }

  #closeSocket(): void {
    this.#connection_number += 1;
    window.clearTimeout(this.#retry_timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    this.onClosed(1000);
    socket.close(1000);
  }

  #perform(action: CloseAction): void {
    switch (action.kind) {
      case "ended":
        this.state.set({ status: "ended", message: action.message });
        return;
      case "access_ended":
        this.state.set({ status: "access_ended", close_code: action.close_code });
        return;
      case "stop":
        this.state.set({ status: "stopped", message: action.message, can_retry: action.can_retry });
        return;
      case "new_ticket":
        this.#ticket_renewed = true;
        void this.connect();
        return;
      case "reconnect": {
        this.state.set({ status: "waiting", message: action.message, attempt: this.#attempt });
        const delay_ms = backoff_ms(this.#attempt, Math.random(), 400, maxBackoff_ms(action, this.#attempt));
        this.#attempt += 1;
        this.#retry_timer = window.setTimeout(() => void this.connect(), delay_ms);
      }
    }
  }
}
