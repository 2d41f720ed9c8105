// /admin/sessions: a live list with filters and search, all of which are in the address.

import { useEffect, useMemo, useRef } from "preact/hooks";
import { api } from "../../api";
import { ProblemNote } from "../../components/problem-note";
import { clock } from "../../clock";
import { useStore } from "../../store";
import type { SessionQuery } from "../api";
import { beginOf, isPeriod, words } from "../format";
import { LiveSessions } from "../live-sessions";
import { LiveMark, Loading, PeriodChoice } from "../parts";
import { hrefOf, navigate } from "../router";
import { SessionTable } from "../session-table";
import { useData } from "../use-data";

const STATES: Record<string, string> = {
  "": "All",
  active: "Live",
  ended: "Ended",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
};
const SEARCH_DELAY_MS = 250;

export function SessionsPage({ query }: { query: URLSearchParams }) {
  // Another query is another list.
  return <SessionList key={query.toString()} query={query} />;
}

function toSessionQuery(query: URLSearchParams): SessionQuery {
  const period = query.get("period") ?? "";
  const text = (name: string) => query.get(name) ?? undefined;
  return {
    state: text("state"),
    provider: text("provider"),
    caller: text("caller"),
    user: text("user"),
    text: text("text"),
    verdict: text("verdict"),
    since_ms: isPeriod(period) ? beginOf(period, clock.now_ms()) : undefined,
  };
}

function SessionList({ query }: { query: URLSearchParams }) {
  const live = useMemo(() => new LiveSessions(toSessionQuery(query)), [query.toString()]);
  useEffect(() => {
    live.start();
    return () => live.stop();
  }, [live]);
  const { sessions, verdicts, next, problem } = useStore(live.state);
  return (
    <>
      <div class="page-head">
        <h1>Sessions</h1>
        <LiveMark />
      </div>
      <Filters query={query} />
      {problem && <ProblemNote problem={problem} />}
      {sessions === null ? (
        problem === null ? (
          <Loading problem={null} what="sessions" />
        ) : null
      ) : (
        <>
          <p class="muted count-line" data-count={sessions.length}>
            {sessions.length === 1 ? "1 session" : `${sessions.length} sessions`}
            {next === null ? "" : ", and older ones"}
          </p>
          {sessions.length === 0 ? (
            <p class="empty">No session matches.</p>
          ) : (
            <SessionTable sessions={sessions} verdicts={verdicts} />
          )}
          {next && (
            <button type="button" class="small" onClick={() => void live.loadMore()}>
              Older sessions
            </button>
          )}
        </>
      )}
    </>
  );
}

function Filters({ query }: { query: URLSearchParams }) {
  const { value: providers } = useData("providers", () => api.providers());
  const timer = useRef<number | undefined>(undefined);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  const current = Object.fromEntries(query);
  const set = (name: string, value: string) => navigate(hrefOf("sessions", { ...current, [name]: value }), true);
  const state = query.get("state") ?? "";
  const period = query.get("period") ?? "";
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <input
        type="search"
        aria-label="Search by id, person, caller, tool, machine or reason"
        placeholder="Id, person, caller, tool, reason"
        value={query.get("text") ?? ""}
        // The page is made again for each address: the focus returns to where it was.
        autoFocus={query.has("text")}
        onInput={(event) => {
          const text = event.currentTarget.value;
          window.clearTimeout(timer.current);
          timer.current = window.setTimeout(() => set("text", text), SEARCH_DELAY_MS);
        }}
      />
      <div class="segments" role="group" aria-label="State">
        {Object.entries(STATES).map(([name, label]) => (
          <a key={name} href={hrefOf("sessions", { ...current, state: name })} aria-current={name === state ? "true" : undefined}>
            {label}
          </a>
        ))}
      </div>
      <label class="choice">
        <span class="visually-hidden">Tool</span>
        <select value={query.get("provider") ?? ""} onChange={(event) => set("provider", event.currentTarget.value)}>
          <option value="">All tools</option>
          {(providers ?? []).map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <PeriodChoice path="sessions" query={query} period={isPeriod(period) ? period : ""} />
      {["verdict", "caller", "user"].map((name) => {
        const value = query.get(name);
        return value === null ? null : (
          <button key={name} type="button" class="chip" onClick={() => set(name, "")}>
            {name === "verdict" ? words(value) : value} <span aria-hidden="true">×</span>
            <span class="visually-hidden">remove this filter</span>
          </button>
        );
      })}
    </form>
  );
}
