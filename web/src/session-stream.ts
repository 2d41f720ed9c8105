// One session's state as it changes: server-sent events, and polling while they do not arrive.
//
//   EventSource ──session──▶ state (whole, each time)      silent for too long, or refused
//               ──timeline─▶ entries by number             └─▶ GET every few seconds until it speaks again
//
// The page is driven by this state alone. An ended session never changes again, whatever arrives late.

import { api, asProblem, paths, Refused, type ProblemBody, type SessionView, type TimelineEntry } from "./api";
import { backoff_ms } from "./close";
import { mergeTimeline, supersedes } from "./merge";
import { Store } from "./store";
import { isOver } from "./labels";

export type Link = "connecting" | "live" | "polling" | "lost";

export interface LiveState {
  session: SessionView | null;
  /** Oldest first, each number once. */
  timeline: readonly TimelineEntry[];
  link: Link;
  /** The server's refusal to show this session at all. */
  refusal: ProblemBody | null;
}

/** No `session` message for this long after a (re)connection: a proxy may hold the stream back, so ask. */
const SILENCE_MS_MAX = 4_000;
const POLL_MS = 2_500;

export class Live {
  readonly state = new Store<LiveState>({ session: null, timeline: [], link: "connecting", refusal: null });
  #source: EventSource | null = null;
  #silence: number | undefined;
  #poll: number | undefined;
  #reopen: number | undefined;
  #failures = 0;
  /** How many states the stream has told. */
  #heard = 0;
  #stopped = false;

  constructor(readonly id: string) {}

  start(): void {
    this.#open();
    void this.refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#source?.close();
    this.#source = null;
    for (const timer of [this.#silence, this.#poll, this.#reopen]) window.clearTimeout(timer);
  }

  /** Asks for the state now; for moments when something else showed that it changed. */
  async refresh(): Promise<boolean> {
    const heard = this.#heard;
    try {
      const session = await api.session(this.id);
      // What the stream said meanwhile is newer than this answer.
      if (heard === this.#heard || isOver(session.status)) this.#take(session);
      this.#failures = 0;
      return true;
    } catch (thrown) {
      this.#failed(thrown);
      return false;
    }
  }

  #change(part: Partial<LiveState>): void {
    if (!this.#stopped) this.state.set({ ...this.state.value, ...part });
  }

  #take(session: SessionView): void {
    const before = this.state.value.session;
    if (!supersedes(before, session)) return;
    this.#change({ session, refusal: null });
    // The end's own timeline entries may come after the stream has closed.
    if (isOver(session.status) && (before === null || !isOver(before.status))) void this.#fetchTimeline();
  }

  async #fetchTimeline(): Promise<void> {
    const entries = await api.timeline(this.id).catch(() => []);
    this.#change({ timeline: mergeTimeline(this.state.value.timeline, entries) });
  }

  #failed(thrown: unknown): void {
    this.#failures += 1;
    const status = thrown instanceof Refused ? thrown.status : 0;
    if ([400, 401, 403, 404].includes(status)) {
      this.#change({ refusal: asProblem(thrown) });
      this.stop();
    } else if (this.#failures > 1) {
      this.#change({ link: "lost" });
    }
  }

  #open(): void {
    const source = new EventSource(paths.events(this.id, this.state.value.timeline.at(-1)?.number));
    this.#source = source;
    this.#expectWord();
    source.addEventListener("session", (event) => {
      window.clearTimeout(this.#silence);
      window.clearTimeout(this.#poll);
      this.#silence = undefined;
      this.#poll = undefined;
      this.#failures = 0;
      this.#heard += 1;
      this.#change({ link: "live" });
      this.#take(JSON.parse(event.data as string) as SessionView);
    });
    source.addEventListener("timeline", (event) => {
      const entry = JSON.parse(event.data as string) as TimelineEntry;
      this.#change({ timeline: mergeTimeline(this.state.value.timeline, [entry]) });
    });
    source.addEventListener("error", () => {
      const session = this.state.value.session;
      if (session !== null && isOver(session.status)) {
        source.close();
        return;
      }
      // Connecting: the browser tries again by itself, with Last-Event-ID. Closed: it was refused and never will.
      this.#expectWord();
      if (source.readyState === EventSource.CLOSED) this.#openLater();
    });
  }

  #openLater(): void {
    window.clearTimeout(this.#reopen);
    this.#reopen = window.setTimeout(
      () => {
        this.#source?.close();
        if (!this.#stopped) this.#open();
      },
      backoff_ms(this.#failures, Math.random(), 3_000, 30_000),
    );
  }

  /** Only a word ends the silence; a new try at the stream does not begin it anew. */
  #expectWord(): void {
    this.#silence ??= window.setTimeout(() => this.#pollNow(), SILENCE_MS_MAX);
  }

  #pollNow(): void {
    this.#silence = undefined;
    if (this.#stopped || this.#poll !== undefined) return;
    const once = async () => {
      const good = await this.refresh();
      if (good) {
        this.#change({ link: "polling" });
        await this.#fetchTimeline();
      }
      const session = this.state.value.session;
      if (this.#stopped || this.#poll === undefined || (session !== null && isOver(session.status))) return;
      const pause_ms = good ? POLL_MS * (1 + Math.random() / 2) : backoff_ms(this.#failures, Math.random(), 1_000, 15_000);
      this.#poll = window.setTimeout(() => void once(), pause_ms);
    };
    this.#poll = window.setTimeout(() => void once(), 0);
  }
}
