// The server's time, as far as this page knows it: deadlines are the server's, and a person's clock may be wrong.

/** Milliseconds to add to this machine's clock; `Date` headers are whole seconds, so smaller differences are noise. */
export class Clock {
  #offset_ms = 0;

  constructor(private readonly local: () => number = () => Date.now()) {}

  /** Takes the `Date` header of an answer that has just arrived. */
  heard(header: string | null): void {
    const server_ms = header === null ? Number.NaN : Date.parse(header);
    if (Number.isNaN(server_ms)) return;
    const offset_ms = server_ms + 500 - this.local();
    this.#offset_ms = Math.abs(offset_ms) < 2_000 ? 0 : offset_ms;
  }

  /** Milliseconds since 1970 by the server's clock. */
  now_ms(): number {
    return this.local() + this.#offset_ms;
  }
}

export const clock = new Clock();

/** Milliseconds from `now_ms` until an RFC 3339 time, never below 0; `null` when there is no such time. */
export function left_ms(until: string | null, now_ms: number): number | null {
  const at = until === null ? Number.NaN : Date.parse(until);
  return Number.isNaN(at) ? null : Math.max(0, at - now_ms);
}

/** A duration as a clock shows it: `0:09`, `12:34`, `1:02:03`. */
export function asClock(ms: number): string {
  const total = Math.ceil(ms / 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

/** A duration in words, for people who do not need seconds: `about 25 minutes`. */
export function asWords(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 90) return minutes === 1 ? "about a minute" : `about ${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return `about ${hours} hours`;
}
