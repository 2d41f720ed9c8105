// A WebSocket that is opened with a ticket, says why it closed, and comes back by itself where that makes sense.
//
//   ticket ─▶ socket ─▶ open ─▶ closed(code) ─▶ close.ts decides: reconnect · new ticket · over · stop

import { api, paths, Refused, type Purpose } from "./api";
import { backoff_ms, longest_ms, onClose, type Action } from "./close";
import { Store } from "./store";

export type SocketState =
  | { is: "connecting"; attempt: number }
  /** Open; bytes may still be a while away (the server waits for the machine). */
  | { is: "open" }
  | { is: "waiting"; say: string; attempt: number }
  | { is: "stopped"; say: string; again: boolean }
  | { is: "over"; say: string };

function address(session: string, purpose: Purpose, query: string): string {
  const path = purpose === "desktop" ? paths.desktopSocket(session) : paths.terminalSocket(session);
  const url = new URL(path, window.location.href);
  url.search = query;
  // Always as safe as the page: behind a TLS proxy the page is https, so this is wss.
  url.protocol = window.location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function ofRefusedTicket(thrown: unknown): Action {
  if (!(thrown instanceof Refused)) return onClose(4500, "", true);
  // Too many requests: later is enough. (As a close code, 4429 would mean too many viewers.)
  if (thrown.status === 0) return { do: "reconnect", say: thrown.problem.sentence, soon: true };
  if (thrown.status === 429) return { do: "reconnect", say: thrown.problem.sentence };
  return onClose(thrown.problem.close_code, `${thrown.problem.code}: ${thrown.problem.sentence}`, true);
}

export class TicketedSocket {
  readonly state = new Store<SocketState>({ is: "connecting", attempt: 0 });
  #socket: WebSocket | null = null;
  #attempt = 0;
  #ticket_renewed = false;
  #timer: number | undefined;
  /** Counts connections, so that an answer that comes late for an abandoned one is dropped. */
  #round = 0;

  /** @param onSocket takes each new socket, still connecting; it may set the socket's `on…` properties. */
  constructor(
    private readonly session: string,
    private readonly purpose: Purpose,
    private readonly onSocket: (socket: WebSocket) => void,
    private readonly onClosed: () => void = () => {},
    /** Whether the server shall let nothing through that acts. */
    private readonly view_only = false,
    /** What the address asks for at this moment. */
    private readonly query: () => string = () => "",
  ) {}

  /** Connects, now. Also the answer to "Connect again". */
  async connect(): Promise<void> {
    this.#abandon();
    const round = this.#round;
    this.state.set({ is: "connecting", attempt: this.#attempt });
    let ticket: string;
    try {
      ticket = (await api.ticket(this.session, this.purpose, this.view_only)).ticket;
    } catch (thrown) {
      if (round === this.#round) this.#act(ofRefusedTicket(thrown));
      return;
    }
    if (round !== this.#round) return;
    const socket = new WebSocket(address(this.session, this.purpose, this.query()), ["binary", `ticket.${ticket}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => this.state.set({ is: "open" }));
    socket.addEventListener("message", () => this.#proved(), { once: true });
    socket.addEventListener("close", (event) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.onClosed();
      this.#act(onClose(event.code, event.reason, this.#ticket_renewed));
    });
    this.onSocket(socket);
  }

  /** Something changed for the better: a wait ends now. */
  nudge(): void {
    if (this.state.value.is === "waiting") void this.connect();
  }

  /** Ends it for good, unless `connect` is called. */
  stop(): void {
    this.#abandon();
  }

  #proved(): void {
    this.#attempt = 0;
    this.#ticket_renewed = false;
  }

  #abandon(): void {
    this.#round += 1;
    window.clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    this.onClosed();
    socket.close(1000);
  }

  #act(action: Action): void {
    switch (action.do) {
      case "over":
        this.state.set({ is: "over", say: action.say });
        return;
      case "stop":
        this.state.set({ is: "stopped", say: action.say, again: action.again });
        return;
      case "new_ticket":
        this.#ticket_renewed = true;
        void this.connect();
        return;
      case "reconnect": {
        this.state.set({ is: "waiting", say: action.say, attempt: this.#attempt });
        const pause_ms = backoff_ms(this.#attempt, Math.random(), 400, longest_ms(action, this.#attempt));
        this.#attempt += 1;
        this.#timer = window.setTimeout(() => void this.connect(), pause_ms);
      }
    }
  }
}
