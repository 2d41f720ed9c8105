// Texts for numbers, times and codes of the operators' pages.

const DAY_MS = 24 * 3_600_000;

/** The periods that the pages offer, and their lengths; `today` begins at midnight. */
export const PERIODS = { hour: "Last hour", today: "Today", day: "24 hours", week: "7 days" } as const;
export type Period = keyof typeof PERIODS;

export function isPeriod(text: string): text is Period {
  return Object.hasOwn(PERIODS, text);
}

/** When a period begins, milliseconds since 1970. */
export function beginOf(period: Period, now_ms: number): number {
  switch (period) {
    case "hour":
      return now_ms - 3_600_000;
    case "today":
      return new Date(now_ms).setHours(0, 0, 0, 0);
    case "day":
      return now_ms - DAY_MS;
    case "week":
      return now_ms - 7 * DAY_MS;
  }
}

/** A duration in at most three digits and a unit: `80 ms`, `1.25 s`, `12 s`, `4 min`, `2 h`, `3 d`. */
export function formatDuration(duration_ms: number): string {
  if (duration_ms < 1_000) return `${Math.round(duration_ms)} ms`;
  const seconds = duration_ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

export function formatMib(mib: number): string {
  return mib < 1_024 ? `${mib} MiB` : `${(mib / 1_024).toFixed(mib < 10_240 ? 1 : 0)} GiB`;
}

/** A size in at most three digits and a unit: `512 bytes`, `12 KiB`, `1.4 GiB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1_024) return `${bytes} bytes`;
  return bytes < 1_048_576 ? `${Math.round(bytes / 1_024)} KiB` : formatMib(Math.round(bytes / 1_048_576));
}

export const formatCount = (count: number) => count.toLocaleString("en");

/** `cli_not_started` → `Tool not started`. */
export function words(code: string): string {
  const text = code.replace(/\bcli(?=_|$)/, "tool").replaceAll("_", " ").replaceAll(".", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The last characters of an id, which distinguish it from others. */
export const shortId = (id: string) => `${id.slice(0, 4)}…${id.slice(-6)}`;

/** Time of day today, otherwise also the date. */
export function formatTime(at: string, now_ms: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const is_today = date.toDateString() === new Date(now_ms).toDateString();
  return is_today
    ? date.toLocaleTimeString([], { hour12: false })
    : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
