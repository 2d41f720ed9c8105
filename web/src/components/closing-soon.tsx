// The last minutes of a session: when it closes, and a button that keeps it open. A heartbeat extends the idle time, not the total time.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView } from "../api";
import { clock, remaining_ms } from "../clock";
import { texts } from "../texts";
import { Countdown } from "./countdown";
import { ProblemNote } from "./problem-note";

/** The time before a deadline in which it is shown. */
const SOON_MS = 5 * 60_000;

function isSoon(until: string | null, now_ms: number): boolean {
  const left_ms = remaining_ms(until, now_ms);
  return left_ms !== null && left_ms <= SOON_MS;
}

interface ClosingSoonProps {
  session: SessionView;
  /** Whether the user may keep the session open. */
  can_keep_open: boolean;
}

export function ClosingSoon({ session, can_keep_open }: ClosingSoonProps) {
  const [now_ms, setNow] = useState(clock.now_ms());
  const [kept_until, setKeptUntil] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const timer = window.setInterval(() => setNow(clock.now_ms()), 1_000);
    return () => window.clearInterval(timer);
  }, []);
  // The answer to the button may be newer than the state of the stream.
  const idle_until = later(session.idle_deadline_at, kept_until);
  const is_idle = isSoon(idle_until, now_ms);
  const is_final = session.queue_position === null && isSoon(session.deadline_at, now_ms);
  if (!is_idle && !is_final) return null;
  const keepOpen = () => {
    setProblem(null);
    api.heartbeat(session.id).then(
      (kept) => setKeptUntil(kept.idle_deadline_at),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  return (
    <div class="row closing-soon" data-notice="closing-soon">
      {is_idle ? <Countdown until={idle_until} prefix={texts.closes_in} /> : null}
      {is_idle && can_keep_open ? (
        <button type="button" class="small" data-action="keep-open" onClick={keepOpen}>
          {texts.keep_open}
        </button>
      ) : null}
      {is_final ? <Countdown until={session.deadline_at} prefix={texts.closes_at_the_latest_in} /> : null}
      {problem === null ? null : <ProblemNote problem={problem} />}
    </div>
  );
}

function later(one: string | null, other: string | null): string | null {
  if (one === null || other === null) return one ?? other;
  return Date.parse(one) > Date.parse(other) ? one : other;
}
