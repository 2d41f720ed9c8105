// Points in time in the words of the page's language.

import { useEffect, useState } from "preact/hooks";
import { clock } from "./clock";

const DAY_MS = 86_400_000;
/** From the largest unit to the smallest, with its milliseconds. */
const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * DAY_MS],
  ["month", 30 * DAY_MS],
  ["day", DAY_MS],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

/** `1 minute ago`, `yesterday`; `null`: less than a minute ago, or no time. */
export function formatAgo(at: string, now_ms: number, locale: string): string | null {
  const age_ms = now_ms - Date.parse(at);
  const [unit, unit_ms] = UNITS.find(([, ms]) => age_ms >= ms) ?? [];
  if (unit === undefined || unit_ms === undefined) return null;
  return new Intl.RelativeTimeFormat(locale, { numeric: "auto" }).format(-Math.floor(age_ms / unit_ms), unit);
}

/** `1 December`; with the year if it is another one. */
export function formatDay(at: string, now_ms: number, locale: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const is_this_year = date.getFullYear() === new Date(now_ms).getFullYear();
  return date.toLocaleDateString(locale, { day: "numeric", month: "long", ...(is_this_year ? {} : { year: "numeric" }) });
}

/** How many midnights of the person's time zone are between now and then. */
export function daysUntil(at: string, now_ms: number): number {
  const startOfDay = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);
  return Math.round((startOfDay(Date.parse(at)) - startOfDay(now_ms)) / DAY_MS);
}

/** The server's time, kept current while the page is shown. */
export function useNow(every_ms: number): number {
  const [now_ms, setNow] = useState(() => clock.now_ms());
  useEffect(() => {
    const update = () => setNow(clock.now_ms());
    const timer = window.setInterval(update, every_ms);
    // Timers stop while the computer sleeps or the page is hidden.
    document.addEventListener("visibilitychange", update);
    return () => {
      window.clearInterval(timer);
      document.removeEventListener("visibilitychange", update);
    };
  }, [every_ms]);
  return now_ms;
}
