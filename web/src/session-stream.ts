// The live state of one session: server-sent events, and polling while no events arrive.
//
//   EventStream ──session──▶ the complete state           no message for too long, or the stream was rejected
//               ──timeline─▶ entries by number            └─▶ GET every few seconds until the stream delivers again
//
// The page shows only this state. An ended session does not change any more, even if an older state arrives late.

import { api, ApiError, inLanguage, paths, toProblem, type Problem, type HelperView, type SessionView, type TimelineEntry } from "./api";
import { backoff_ms } from "./close";
import { EventStream } from "./event-stream";
import { hasEnded } from "./labels";
import { mergeTimeline, supersedes } from "./merge";
import { Store } from "./store";
import { language } from "./texts";

/** `held_back`: polling, while the stream is open and delivers nothing. */
export type StreamStatus = "connecting" | "live" | "polling" | "held_back" | "lost";

export interface SessionStreamState {
  session: SessionView | null;
  /** Oldest first, each number once. */
  timeline: readonly TimelineEntry[];
  /** `null`: not known, or this caller may not list them. */
  helpers: readonly HelperView[] | null;
  status: StreamStatus;
  /** The error of the API if this session cannot be shown at all. */
  problem: Problem | null;
}

/** Without a `session` message for this long after a (re)connection, poll: a proxy may buffer the stream. */
const SILENCE_MS_MAX = 4_000;
const POLL_INTERVAL_MS = 2_500;

export class SessionStream {
  readonly state = new Store<SessionStreamState>({ session: null, timeline: [], helpers: null, status: "connecting", problem: null });
  #source: EventStream | null = null;
  #silence_timer: number | undefined;
  #poll_timer: number | undefined;
  #reopen_timer: number | undefined;
  #failures = 0;
  /** Whether the stream was requested and has not ended. */
  #is_open = false;
  /** How many `session` messages the stream has delivered. */
  #messages_received = 0;
  #stopped = false;
  #unsubscribe = () => {};

  constructor(readonly id: string) {}

  start(): void {
    // The texts of the state are in the language in which it was received.
    this.#unsubscribe = language.subscribe(() => void this.refresh());
    this.#open();
    void this.refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#unsubscribe();
    this.#source?.close();
    this.#source = null;
    for (const timer of [this.#silence_timer, this.#poll_timer, this.#reopen_timer]) window.clearTimeout(timer);
  }

  /** Requests the state now. Call it when another connection shows that the state has changed. Returns whether it succeeded. */
  async refresh(): Promise<boolean> {
    const messages_before = this.#messages_received;
    try {
      const session = await api.session(this.id);
      // A message that the stream delivered during the request is newer than the response.
      if (messages_before === this.#messages_received || hasEnded(session.status)) this.#applySession(session);
      this.#failures = 0;
      return true;
    } catch (error) {
      this.#onRequestFailed(error);
      return false;
    }
  }

  /** Requests the state and opens the stream again now: after a sleep or without a network, the open one may be dead. */
  retryNow(): void {
    const session = this.state.value.session;
    if (this.#stopped || (session !== null && hasEnded(session.status))) return;
    window.clearTimeout(this.#reopen_timer);
    this.#source?.close();
    this.#open();
    void this.refresh();
  }

  /** Shows that the caller was revoked or has expired. Nothing is requested any more. */
  endAccess(problem: Problem): void {
    this.#update({ problem });
    this.stop();
  }

  #update(part: Partial<SessionStreamState>): void {
    if (!this.#stopped) this.state.set({ ...this.state.value, ...part });
  }

  #applySession(session: SessionView): void {
    const before = this.state.value.session;
    if (!supersedes(before, session)) return;
    this.#update({ session, problem: null });
    // The last timeline entries may be written after the stream was closed.
    if (hasEnded(session.status) && (before === null || !hasEnded(before.status))) void this.#fetchTimeline();
  }

  async #fetchTimeline(): Promise<void> {
    const entries = await api.timeline(this.id).catch(() => []);
    this.#update({ timeline: mergeTimeline(this.state.value.timeline, entries) });
  }

  #onRequestFailed(error: unknown): void {
    this.#failures += 1;
    const http_status = error instanceof ApiError ? error.status : 0;
    if ([400, 401, 403, 404].includes(http_status)) {
      this.#update({ problem: toProblem(error) });
      this.stop();
    } else if (this.#failures > 1) {
      this.#update({ status: "lost" });
    }
  }

  #open(): void {
    this.#startSilenceTimer();
    this.#is_open = true;
    this.#source = new EventStream(paths.events(this.id), this.state.value.timeline.at(-1)?.number, {
      onEvent: (name, data) => this.#onEvent(name, data),
      onEnd: (status, retry_ms) => this.#onStreamEnd(status, retry_ms),
    });
  }

  #onEvent(name: string, data: string): void {
    if (name === "timeline") {
      this.#update({ timeline: mergeTimeline(this.state.value.timeline, [JSON.parse(data) as TimelineEntry]) });
      return;
    }
    if (name === "helpers") {
      this.#update({ helpers: (JSON.parse(data) as { helpers: HelperView[] }).helpers });
      return;
    }
    if (name === "closed") {
      this.endAccess(inLanguage.problem(JSON.parse(data) as Problem));
      return;
    }
    if (name !== "session") return;
    window.clearTimeout(this.#silence_timer);
    window.clearTimeout(this.#poll_timer);
    this.#silence_timer = undefined;
    this.#poll_timer = undefined;
    this.#failures = 0;
    this.#messages_received += 1;
    this.#update({ status: "live" });
    this.#applySession(inLanguage.session(JSON.parse(data) as SessionView));
  }

  #onStreamEnd(status: number, retry_ms: number): void {
    this.#is_open = false;
    const session = this.state.value.session;
    if (this.#stopped || (session !== null && hasEnded(session.status))) return;
    this.#startSilenceTimer();
    // A stream that broke is opened again soon, one that was rejected later.
    const was_rejected = status !== 0 && status !== 200 && status !== 204;
    // Whether the connection is lost, or only the stream ended.
    if (!was_rejected) void this.refresh();
    const delay_ms = was_rejected ? backoff_ms(this.#failures, Math.random(), 3_000, 30_000) : retry_ms;
    window.clearTimeout(this.#reopen_timer);
    this.#reopen_timer = window.setTimeout(() => {
      if (!this.#stopped) this.#open();
    }, delay_ms);
  }

  /** A running timer is not restarted: only a message stops it, a reconnection of the stream does not. */
  #startSilenceTimer(): void {
    this.#silence_timer ??= window.setTimeout(() => this.#startPolling(), SILENCE_MS_MAX);
  }

  #startPolling(): void {
    this.#silence_timer = undefined;
    if (this.#stopped || this.#poll_timer !== undefined) return;
    const poll = async () => {
      const succeeded = await this.refresh();
      if (succeeded) {
        const is_held_back = this.#is_open && this.#messages_received === 0;
        if (is_held_back && this.state.value.status !== "held_back") void api.reportProxyFault(this.id, "proxy_buffers").catch(() => undefined);
        this.#update({ status: is_held_back ? "held_back" : "polling" });
        await this.#fetchTimeline();
        // Only of callers that may list them.
        if (this.state.value.helpers !== null) await api.helpers(this.id).then((helpers) => this.#update({ helpers }), () => undefined);
      }
      const session = this.state.value.session;
      if (this.#stopped || this.#poll_timer === undefined || (session !== null && hasEnded(session.status))) return;
      const delay_ms = succeeded
        ? POLL_INTERVAL_MS * (1 + Math.random() / 2)
        : backoff_ms(this.#failures, Math.random(), 1_000, 15_000);
      this.#poll_timer = window.setTimeout(() => void poll(), delay_ms);
    };
    this.#poll_timer = window.setTimeout(() => void poll(), 0);
  }
}
