// The sessions of a list, kept up to date by the event stream of all sessions.

import { isUnreachable, toProblem, type Problem, type SessionView } from "../api";
import { backoff_ms } from "../close";
import { hasEnded } from "../labels";
import { session_events } from "../session-events";
import { Store } from "../store";
import { adminApi, type SessionQuery } from "./api";

export interface LiveSessionsState {
  /** Newest first; `null` before the first answer. */
  sessions: SessionView[] | null;
  verdicts: Record<string, string>;
  /** The cursor of older sessions. */
  next: string | null;
  problem: Problem | null;
}

/** Changes that arrive together cause one read of the list. */
const READ_DELAY_MS = 150;
const SHOWN_MAX = 100;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 5_000;

export class LiveSessions {
  readonly state = new Store<LiveSessionsState>({ sessions: null, verdicts: {}, next: null, problem: null });
  #read_timer: number | undefined;
  #failures = 0;
  #stop: (() => void) | null = null;
  #stopped = false;

  constructor(readonly query: SessionQuery) {}

  start(): void {
    this.#stop = session_events.listen({
      onSession: (session) => this.#apply(session),
      onReset: () => this.#readSoon(),
    });
    void this.#read();
  }

  stop(): void {
    this.#stopped = true;
    this.#stop?.();
    window.clearTimeout(this.#read_timer);
  }

  #update(part: Partial<LiveSessionsState>): void {
    if (!this.#stopped) this.state.set({ ...this.state.value, ...part });
  }

  /** Appends the next page. */
  async loadMore(): Promise<void> {
    const { next, sessions, verdicts } = this.state.value;
    if (next === null || sessions === null) return;
    try {
      const page = await adminApi.sessions({ ...this.query, cursor: next, limit: SHOWN_MAX });
      this.#update({
        sessions: [...sessions, ...page.sessions],
        verdicts: { ...verdicts, ...page.verdicts },
        next: page.next_cursor,
        problem: null,
      });
    } catch (error) {
      this.#update({ problem: toProblem(error) });
    }
  }

  async #read(): Promise<void> {
    try {
      const page = await adminApi.sessions({ ...this.query, limit: SHOWN_MAX });
      this.#failures = 0;
      this.#update({ sessions: page.sessions, verdicts: page.verdicts, next: page.next_cursor, problem: null });
    } catch (error) {
      this.#update({ problem: toProblem(error) });
      // The event that caused the read does not come again.
      if (isUnreachable(error)) this.#readSoon(backoff_ms(this.#failures, Math.random(), RETRY_MS_MIN, RETRY_MS_MAX));
      this.#failures += 1;
    }
  }

  #apply(session: SessionView): void {
    const sessions = this.state.value.sessions ?? [];
    const known = sessions.find((one) => one.id === session.id);
    // Only the server knows whether a new session belongs to the list, and why a session has ended.
    if (known === undefined || hasEnded(known.status) !== hasEnded(session.status)) this.#readSoon();
    if (known !== undefined) this.#update({ sessions: sessions.map((one) => (one.id === session.id ? session : one)) });
  }

  #readSoon(delay_ms = READ_DELAY_MS): void {
    if (this.#stopped) return;
    this.#read_timer ??= window.setTimeout(() => {
      this.#read_timer = undefined;
      if (!this.#stopped) void this.#read();
    }, delay_ms);
  }
}
