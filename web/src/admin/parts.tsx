// Parts that several of the operators' pages have.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Problem, SessionView } from "../api";
import { clock } from "../clock";
import { OidcConfirm } from "../components/oidc-sign-in";
import { ProblemNote } from "../components/problem-note";
import { hasEnded, statusLabel } from "../labels";
import { session_events } from "../session-events";
import { useStore } from "../store";
import { formatDuration, formatTime, isPeriod, PERIODS, shortId, words, type Period } from "./format";
import { hrefOf, navigate } from "./router";

/** The server's time, every second while the page is visible. */
export function useNow(): number {
  const [now_ms, setNow] = useState(clock.now_ms());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(clock.now_ms()), 1_000);
    return () => window.clearInterval(timer);
  }, []);
  return now_ms;
}

/** What a page shows before its data, or instead of it. */
export function Loading({ problem, what }: { problem: Problem | null; what: string }) {
  if (problem !== null) return <ProblemNote problem={problem} />;
  return (
    <p class="muted" role="status">
      Loading {what}…
    </p>
  );
}

/** Why an action failed, where it was started. A browser that signed in long ago can confirm and try again. */
export function ActionProblem({ problem }: { problem: Problem }) {
  return (
    <div class="action-problem">
      <ProblemNote problem={problem}>
        {problem.code === "confirmation_required" ? <OidcConfirm /> : null}
      </ProblemNote>
    </div>
  );
}

/** Whether the page follows the changes of sessions. It is read when it is reached; a screen reader does not announce its changes. */
export function LiveMark({ is_live: of_other_stream }: { is_live?: boolean }) {
  const { is_live: of_sessions } = useStore(session_events.state);
  const is_live = of_other_stream ?? of_sessions;
  return <span class={`live-mark ${is_live ? "on" : "off"}`}>{is_live ? "Live" : "Connecting…"}</span>;
}

export function Panel(props: { title: string; id: string; aside?: ComponentChildren; class?: string; children: ComponentChildren }) {
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={props.id}>
      <div class="panel-head">
        <h2 id={props.id}>{props.title}</h2>
        {props.aside}
      </div>
      {props.children}
    </section>
  );
}

/** A table that scrolls sideways by itself on a narrow page. */
export function Table({ label, columns, children }: { label: string; columns: readonly string[]; children: ComponentChildren }) {
  return (
    <div class="table-frame" tabIndex={0} role="group" aria-label={label}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export function Time({ at, now_ms }: { at: string; now_ms: number }) {
  return (
    <time dateTime={at} title={at}>
      {formatTime(at, now_ms)}
    </time>
  );
}

/** How long ago a time was. */
export function Age({ at, now_ms }: { at: string; now_ms: number }) {
  const age_ms = now_ms - Date.parse(at);
  return (
    <time dateTime={at} title={formatTime(at, now_ms)}>
      {Number.isNaN(age_ms) ? at : age_ms < 1_000 ? "now" : formatDuration(Math.floor(age_ms / 1_000) * 1_000).replace(/\.\d+/, "")}
    </time>
  );
}

/** Leads to the next page of a list. */
export function ShowMore({ has_more, onMore }: { has_more: boolean; onMore: () => void }) {
  if (!has_more) return null;
  return (
    <button type="button" class="small" onClick={onMore}>
      Show more
    </button>
  );
}

export function SessionLink({ id }: { id: string }) {
  return (
    <a class="mono" href={hrefOf(`sessions/${id}`)} title={id}>
      {shortId(id)}
    </a>
  );
}

/** What a session does, or why it ended. */
export function SessionState({ session, verdict }: { session: SessionView; verdict: string | undefined }) {
  const { tone } = statusLabel(session.status);
  if (hasEnded(session.status)) {
    const cause = verdict ?? session.reason?.code ?? session.status;
    // A deadline ends also sessions whose sign-in failed before.
    const has_fault = session.status === "expired" && !cause.endsWith("_expired");
    return (
      <span class={`state ${has_fault ? "bad" : tone}`} title={session.reason?.sentence}>
        {session.status === "completed" ? "Completed" : words(cause)}
      </span>
    );
  }
  const { phase, situation } = session.for_person;
  if (phase === "needs_attention" || phase === "failed") {
    return (
      <span class="state warn" title={session.next_action}>
        {words(situation)}
      </span>
    );
  }
  const step =
    session.queue_position !== null
      ? `Queued, number ${session.queue_position}`
      : session.stage !== null
        ? (STAGES[session.stage] ?? words(session.stage))
        : OPERATOR_STATES[session.status];
  return <span class={`state ${tone}`}>{step ?? words(session.status)}</span>;
}

const STAGES: Record<string, string> = {
  process: "Starting the machine",
  channel: "Connecting to the machine",
  hello: "Waiting for the agent",
  display: "Starting the display",
  window_manager: "Starting the window manager",
  terminal: "Preparing the terminal",
  browser: "Preparing the browser",
  cli: "Starting the tool",
};

const OPERATOR_STATES: Partial<Record<string, string>> = {
  vm_creating: "Starting a machine",
  vm_created: "Machine starts",
  vm_started: "Machine ready",
  authenticating: "Signing in",
  vm_stopped: "Replacing the machine",
};

/** Chooses a period; the choice is in the address. */
export function PeriodChoice({ path, query, period }: { path: string; query: URLSearchParams; period: Period | "" }) {
  return (
    <label class="choice">
      <span class="visually-hidden">Period</span>
      <select
        value={period}
        onChange={(event) => {
          const chosen = event.currentTarget.value;
          navigate(hrefOf(path, { ...Object.fromEntries(query), period: chosen }), true);
        }}
      >
        {period === "" ? <option value="">Any time</option> : null}
        {Object.entries(PERIODS).map(([name, label]) => (
          <option key={name} value={name}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The period in an address. */
export function periodOf(query: URLSearchParams, otherwise: Period): Period {
  const period = query.get("period") ?? "";
  return isPeriod(period) ? period : otherwise;
}
