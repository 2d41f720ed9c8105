// Notices changes of the caller's sessions by the event stream of all of them, so that lists need not be requested all the time.

import { paths } from "./api";
import { backoff_ms } from "./close";
import { EventStream } from "./event-stream";

/** Changes that arrive together are one. */
const CHANGE_DELAY_MS = 100;
const BACKOFF_MS_MAX = 30_000;

export class SessionsWatch {
  #stream: EventStream | null = null;
  #last_event_id: number | undefined;
  #change_timer: number | undefined;
  #open_timer: number | undefined;
  #failures = 0;

  /** @param onChange is called after changes; it may be called without one */
  constructor(private readonly onChange: () => void) {}

  start(): void {
    this.#stream = new EventStream(paths.allEvents, this.#last_event_id, {
      onEvent: (name, _, id) => {
        this.#failures = 0;
        this.#last_event_id = id ?? this.#last_event_id;
        // The access has ended: the next request shows why.
        if (name === "closed") this.stop();
        this.#change_timer ??= window.setTimeout(() => {
          this.#change_timer = undefined;
          this.onChange();
        }, CHANGE_DELAY_MS);
      },
      onEnd: (_, retry_ms) => {
        this.#failures += 1;
        this.#open_timer = window.setTimeout(() => this.start(), backoff_ms(this.#failures, Math.random(), retry_ms, BACKOFF_MS_MAX));
      },
    });
  }

  stop(): void {
    this.#stream?.close();
    for (const timer of [this.#change_timer, this.#open_timer]) window.clearTimeout(timer);
    this.#change_timer = undefined;
  }
}
