// The time until a deadline, by the server's clock. It is only shown: the server ends the session, not this page.

import { useEffect, useState } from "preact/hooks";
import { clock, formatClock, remaining_ms } from "../clock";

/** Below this, the countdown is highlighted. */
const URGENT_MS = 60_000;

export function Countdown({ until, prefix }: { until: string | null; prefix: string }) {
  const [now_ms, setNow] = useState(clock.now_ms());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(clock.now_ms()), 1_000);
    return () => window.clearInterval(timer);
  }, []);
  const left_ms = remaining_ms(until, now_ms);
  if (left_ms === null) return null;
  return (
    <span class={left_ms < URGENT_MS ? "countdown urgent" : "countdown"} role="timer" aria-live="off">
      {prefix} <time dateTime={until ?? undefined}>{formatClock(left_ms)}</time>
    </span>
  );
}
