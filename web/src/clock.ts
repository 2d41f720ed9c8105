// The server's time. Deadlines are in the server's time, and the clock of the user's computer may be wrong.

/** Computes the server's time from the local clock and the `Date` headers of responses. */
export class Clock {
  /** Milliseconds to add to the local clock. `Date` headers have whole seconds, so smaller differences are ignored. */
  #offset_ms = 0;

  constructor(private readonly local_ms: () => number = () => Date.now()) {}

  /** Updates the offset from the `Date` header of a response that has just arrived. */
  synchronize(date_header: string | null): void {
    const server_ms = date_header === null ? Number.NaN : Date.parse(date_header);
    if (Number.isNaN(server_ms)) return;
    const offset_ms = server_ms + 500 - this.local_ms();
    this.#offset_ms = Math.abs(offset_ms) < 2_000 ? 0 : offset_ms;
  }

  /** Milliseconds since 1970 by the server's clock. */
  now_ms(): number {
    return this.local_ms() + this.#offset_ms;
  }
}

export const clock = new Clock();

/** Milliseconds from `now_ms` until an RFC 3339 time, at least 0; `null` for `null` or an invalid time. */
export function remaining_ms(until: string | null, now_ms: number): number | null {
  const at_ms = until === null ? Number.NaN : Date.parse(until);
  return Number.isNaN(at_ms) ? null : Math.max(0, at_ms - now_ms);
}

/** Formats a duration as `0:09`, `12:34` or `1:02:03`. */
export function formatClock(duration_ms: number): string {
  const total_s = Math.ceil(duration_ms / 1000);
  const twoDigits = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(total_s / 3600);
  const minutes = Math.floor(total_s / 60) % 60;
  const seconds = twoDigits(total_s % 60);
  return hours > 0 ? `${hours}:${twoDigits(minutes)}:${seconds}` : `${minutes}:${seconds}`;
}
