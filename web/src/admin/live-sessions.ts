// The sessions of a list, kept up to date by the event stream of all sessions. After a pause of the computer the stream continues after
// the last event; if the server does not know what changed since, the list is read again.

import { toProblem, type Problem, type SessionView } from "../api";
import { backoff_ms } from "../close";
import { EventStream } from "../event-stream";
import { hasEnded } from "../labels";
import { Store } from "../store";
import { adminApi, SESSIONS_EVENTS, type SessionQuery } from "./api";

export interface LiveSessionsState {
  /** Newest first; `null` before the first answer. */
  sessions: SessionView[] | null;
  verdicts: Record<string, string>;
  /** The value of `before` for older sessions. */
  next: string | null;
  is_live: boolean;
  problem: Problem | null;
}

/** Changes that arrive together cause one read of the list. */
const READ_DELAY_MS = 150;
const SHOWN_MAX = 100;

export class LiveSessions {
  readonly state = new Store<LiveSessionsState>({ sessions: null, verdicts: {}, next: null, is_live: false, problem: null });
  #stream: EventStream | null = null;
  #last_event_id: number | undefined;
  #read_timer: number | undefined;
  #open_timer: number | undefined;
  #failures = 0;
  #stopped = false;

  /** @param onChange is called after each change of any session */
  constructor(
    readonly query: SessionQuery,
    private readonly onChange: () => void = () => undefined,
  ) {}

  start(): void {
    this.#open();
    void this.#read();
  }

  stop(): void {
    this.#stopped = true;
    this.#stream?.close();
    for (const timer of [this.#read_timer, this.#open_timer]) window.clearTimeout(timer);
  }

  #update(part: Partial<LiveSessionsState>): void {
    if (!this.#stopped) this.state.set({ ...this.state.value, ...part });
  }

  /** Appends the next page. */
  async loadMore(): Promise<void> {
    const { next, sessions, verdicts } = this.state.value;
    if (next === null || sessions === null) return;
    try {
      const page = await adminApi.sessions({ ...this.query, before: next, limit: SHOWN_MAX });
      this.#update({
        sessions: [...sessions, ...page.sessions],
        verdicts: { ...verdicts, ...page.verdicts },
        next: page.next,
        problem: null,
      });
    } catch (error) {
      this.#update({ problem: toProblem(error) });
    }
  }

  async #read(): Promise<void> {
    try {
      const page = await adminApi.sessions({ ...this.query, limit: SHOWN_MAX });
      this.#update({ sessions: page.sessions, verdicts: page.verdicts, next: page.next, problem: null });
    } catch (error) {
      this.#update({ problem: toProblem(error) });
    }
  }

  #open(): void {
    this.#stream = new EventStream(SESSIONS_EVENTS, this.#last_event_id, {
      onEvent: (name, data, id) => this.#onEvent(name, data, id),
      onEnd: (status, retry_ms) => {
        this.#update({ is_live: false });
        this.#failures += 1;
        const was_rejected = status !== 0 && status !== 200;
        const delay_ms = was_rejected || this.#failures > 1 ? backoff_ms(this.#failures, Math.random(), 1_000, 30_000) : retry_ms;
        this.#open_timer = window.setTimeout(() => {
          if (!this.#stopped) this.#open();
        }, delay_ms);
      },
    });
  }

  #onEvent(name: string, data: string, id: number | undefined): void {
    this.#failures = 0;
    this.#last_event_id = id ?? this.#last_event_id;
    this.#update({ is_live: true });
    if (name === "closed") {
      this.#update({ problem: JSON.parse(data) as Problem });
      this.stop();
      return;
    }
    if (name === "session") this.#apply(JSON.parse(data) as SessionView);
    if (name === "reset") this.#readSoon();
    this.onChange();
  }

  #apply(session: SessionView): void {
    const sessions = this.state.value.sessions ?? [];
    const known = sessions.find((one) => one.id === session.id);
    // Only the server knows whether a new session belongs to the list, and why a session has ended.
    if (known === undefined || hasEnded(known.status) !== hasEnded(session.status)) this.#readSoon();
    if (known !== undefined) this.#update({ sessions: sessions.map((one) => (one.id === session.id ? session : one)) });
  }

  #readSoon(): void {
    this.#read_timer ??= window.setTimeout(() => {
      this.#read_timer = undefined;
      if (!this.#stopped) void this.#read();
    }, READ_DELAY_MS);
  }
}
