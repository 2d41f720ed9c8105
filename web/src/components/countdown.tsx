// Time that runs out, by the server's clock. Shown only: nothing happens on this page when it reaches zero.

import { useEffect, useState } from "preact/hooks";
import { asClock, clock, left_ms } from "../clock";

/** Under this, a countdown draws attention to itself. */
const SHORT_MS = 60_000;

export function Countdown({ until, before, after }: { until: string | null; before: string; after?: string }) {
  const [now_ms, tick] = useState(clock.now_ms());
  useEffect(() => {
    const timer = window.setInterval(() => tick(clock.now_ms()), 1_000);
    return () => window.clearInterval(timer);
  }, []);
  const left = left_ms(until, now_ms);
  if (left === null) return null;
  return (
    <span class={left < SHORT_MS ? "countdown short" : "countdown"} role="timer" aria-live="off">
      {before} <time dateTime={until ?? undefined}>{asClock(left)}</time>
      {after ?? ""}
    </span>
  );
}
