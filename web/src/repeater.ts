// Repeats a request for as long as a page is shown: after an interval, after a back-off if it failed, and at once when the page is shown
// again or the browser is online again.

import { backoff_ms } from "./close";

const INITIAL_BACKOFF_MS = 1_000;
const BACKOFF_MS_MAX = 15_000;

/** Milliseconds until the next request; `null`: there is none. */
export type NextRequest = number | null;

export class Repeater {
  #timer: number | undefined;
  #failures = 0;
  #is_running = false;
  /** Whether the next request must not wait: the present one may have begun too early. */
  #is_due = false;
  #is_stopped = false;
  readonly #onReturn = () => {
    if (document.visibilityState === "visible") this.now();
  };

  /** @param request throws if it fails */
  constructor(private readonly request: () => Promise<NextRequest>) {}

  start(): void {
    this.#is_stopped = false;
    document.addEventListener("visibilitychange", this.#onReturn);
    window.addEventListener("online", this.#onReturn);
    // The browser may restore this page as it was left.
    window.addEventListener("pageshow", this.#onReturn);
    this.now();
  }

  stop(): void {
    this.#is_stopped = true;
    window.clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onReturn);
    window.removeEventListener("online", this.#onReturn);
    window.removeEventListener("pageshow", this.#onReturn);
  }

  /** Ends the wait. */
  now(): void {
    if (this.#is_running) this.#is_due = true;
    if (this.#is_running || this.#is_stopped) return;
    window.clearTimeout(this.#timer);
    void this.#run();
  }

  async #run(): Promise<void> {
    this.#is_running = true;
    this.#is_due = false;
    let next: NextRequest;
    try {
      next = await this.request();
      this.#failures = 0;
    } catch {
      next = backoff_ms(this.#failures, Math.random(), INITIAL_BACKOFF_MS, BACKOFF_MS_MAX);
      this.#failures += 1;
    }
    this.#is_running = false;
    if (next === null) this.stop();
    else if (this.#is_due) this.now();
    // A hidden page requests nothing: it continues when it is shown.
    else if (!this.#is_stopped && document.visibilityState === "visible") this.#timer = window.setTimeout(() => this.now(), next);
  }
}
