// The event stream of all sessions: one for a page. It is opened again when it breaks, and at once when the browser is
// online again or the computer wakes up; it continues after the last event (Last-Event-ID).

import { paths, type Problem, type SessionView } from "./api";
import { backoff_ms } from "./close";
import { EventStream } from "./event-stream";
import { Store } from "./store";

export interface SessionEventsState {
  is_live: boolean;
  /** The caller's access has ended. */
  problem: Problem | null;
}

export interface SessionEventsListener {
  /** A session began, changed or ended. */
  onSession: (session: SessionView) => void;
  /** What changed before is not known: read again. */
  onReset: () => void;
}

/** A stream without an event or keep-alive for this long is dead; the server sends one every 8 s. */
const SILENCE_MS_MAX = 40_000;
const CHECK_EVERY_MS = 5_000;

class SessionEvents {
  readonly state = new Store<SessionEventsState>({ is_live: false, problem: null });
  readonly #listeners = new Set<SessionEventsListener>();
  #stream: EventStream | null = null;
  #last_event_id: number | undefined;
  #open_timer: number | undefined;
  #failures = 0;
  #active_at_ms = 0;

  /** Opens the stream with the first listener; it stays open. Returns the function that removes the listener. */
  listen(listener: SessionEventsListener): () => void {
    this.#listeners.add(listener);
    if (this.#stream === null && this.state.value.problem === null) this.#start();
    return () => void this.#listeners.delete(listener);
  }

  #start(): void {
    const reopen = () => this.#reopen();
    const onVisible = () => {
      if (document.visibilityState === "visible" && !this.state.value.is_live) reopen();
    };
    document.addEventListener("visibilitychange", onVisible);
    // The network may be another one: what was open may be dead without a sign of it.
    window.addEventListener("online", reopen);
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) reopen();
    });
    window.addEventListener("offline", () => this.#setLive(false));
    // A timer that fires much too late was asleep with the computer.
    let checked_at_ms = Date.now();
    window.setInterval(() => {
      const now_ms = Date.now();
      const slept = now_ms - checked_at_ms > 3 * CHECK_EVERY_MS && document.visibilityState === "visible";
      checked_at_ms = now_ms;
      if (slept || (this.state.value.is_live && now_ms - this.#active_at_ms > SILENCE_MS_MAX)) reopen();
    }, CHECK_EVERY_MS);
    this.#open();
  }

  #setLive(is_live: boolean): void {
    if (this.state.value.is_live !== is_live) this.state.set({ ...this.state.value, is_live });
  }

  #reopen(): void {
    if (this.state.value.problem !== null) return;
    window.clearTimeout(this.#open_timer);
    this.#stream?.close();
    this.#open();
  }

  #open(): void {
    this.#active_at_ms = Date.now();
    this.#stream = new EventStream(paths.allEvents, this.#last_event_id, {
      onActivity: () => {
        this.#active_at_ms = Date.now();
        this.#failures = 0;
        this.#setLive(true);
      },
      onEvent: (name, data, id) => this.#onEvent(name, data, id),
      onEnd: (status, retry_ms) => {
        this.#setLive(false);
        this.#failures += 1;
        const was_rejected = status !== 0 && status !== 200;
        const delay_ms = was_rejected || this.#failures > 1 ? backoff_ms(this.#failures, Math.random(), 1_000, 30_000) : retry_ms;
        this.#open_timer = window.setTimeout(() => this.#open(), delay_ms);
      },
    });
  }

  #onEvent(name: string, data: string, id: number | undefined): void {
    this.#last_event_id = id ?? this.#last_event_id;
    if (name === "closed") {
      this.#stream?.close();
      this.state.set({ is_live: false, problem: JSON.parse(data) as Problem });
      return;
    }
    for (const listener of this.#listeners) {
      if (name === "session") listener.onSession(JSON.parse(data) as SessionView);
      if (name === "reset") listener.onReset();
    }
  }
}

export const session_events = new SessionEvents();
