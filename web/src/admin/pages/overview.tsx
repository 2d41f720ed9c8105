// /admin: what runs now, how today's sessions ended and why, how fast they started, how full the host is.

import { useEffect, useState } from "preact/hooks";
import { ProblemNote } from "../../components/problem-note";
import { clock } from "../../clock";
import { useStore } from "../../store";
import { adminApi, type Overview } from "../api";
import { beginOf, formatCount, formatDuration, formatMib, PERIODS, words } from "../format";
import { LiveSessions, type LiveSessionsState } from "../live-sessions";
import { LiveMark, Loading, Panel, PeriodChoice, periodOf } from "../parts";
import { hrefOf } from "../router";
import { SessionTable } from "../session-table";
import { StartChart } from "../start-chart";
import { useData } from "../use-data";

const RELOAD_EVERY_MS = 15_000;

const STAGES: Record<string, string> = {
  queue: "Queue",
  process: "Process",
  channel: "Channel",
  agent: "Agent",
  desktop: "Desktop",
  claim: "Claim",
  tool: "Tool shows its first step",
  total: "Whole start",
};

export function OverviewPage({ query }: { query: URLSearchParams }) {
  const period = periodOf(query, "today");
  const { value: overview, problem } = useData(
    `overview ${period}`,
    () => adminApi.overview(beginOf(period, clock.now_ms())),
    { every_ms: RELOAD_EVERY_MS, with_sessions: true },
  );
  const [live] = useState(() => new LiveSessions({ state: "active" }));
  useEffect(() => {
    live.start();
    return () => live.stop();
  }, [live]);
  const list = useStore(live.state);
  return (
    <>
      <div class="page-head">
        <h1>Overview</h1>
        <LiveMark />
        <PeriodChoice path="" query={query} period={period} />
      </div>
      {overview === null ? (
        <Loading problem={problem} what="the overview" />
      ) : (
        <>
          <Figures overview={overview} period={PERIODS[period]} />
          <div class="panels">
            <Causes overview={overview} period={period} />
            <Starts overview={overview} />
            <Refused overview={overview} period={period} />
          </div>
        </>
      )}
      {/* Below the sums, which would move it when they arrive. */}
      {(overview ?? problem) && <Live list={list} />}
    </>
  );
}

function Live({ list }: { list: LiveSessionsState }) {
  return (
    <Panel title="Live sessions" id="live" aside={<a href={hrefOf("sessions")}>All sessions</a>}>
      {list.problem && <ProblemNote problem={list.problem} />}
      {list.sessions === null ? (
        list.problem === null ? (
          <Loading problem={null} what="sessions" />
        ) : null
      ) : list.sessions.length === 0 ? (
        <p class="empty">No session runs.</p>
      ) : (
        <SessionTable sessions={list.sessions} verdicts={list.verdicts} />
      )}
    </Panel>
  );
}

/** One figure with its parts. */
function Figure(props: { name: string; value: string; parts: string[]; href?: string; tone?: string }) {
  const value = <span class={`figure-value ${props.tone ?? ""}`}>{props.value}</span>;
  return (
    <li class="figure" data-figure={props.name}>
      <span class="figure-name">{props.name}</span>
      {props.href === undefined ? value : <a href={props.href}>{value}</a>}
      <span class="figure-parts">{props.parts.join(" · ")}</span>
    </li>
  );
}

function Figures({ overview, period }: { overview: Overview; period: string }) {
  const { live, outcomes, host, starts } = overview;
  const total = starts.find(({ stage }) => stage === "total");
  const memory =
    host.memory_available_mib === null ? [] : [`${formatMib(host.memory_available_mib)} memory free`];
  const disk = host.disk_free_mib === null ? [] : [`${formatMib(host.disk_free_mib)} disk free`];
  const waits = live.queue_wait_ms_max === null ? "" : `, for up to ${formatDuration(live.queue_wait_ms_max)}`;
  const uses = outcomes.uses === 0 ? [] : [`apart from ${formatCount(outcomes.uses)} uses of stored credentials`];
  const weak = host.isolation.level === "strong" ? [] : [`isolation ${host.isolation.level}`];
  return (
    <>
      <ul class="figures">
        <Figure
          name="Now"
          value={`${formatCount(live.sessions)} live`}
          parts={[`${formatCount(live.queued)} queued${waits}`, `${formatCount(live.viewers)} viewers`]}
          href={hrefOf("sessions", { state: "active" })}
        />
        <Figure
          name={period}
          value={`${formatCount(outcomes.completed)} completed`}
          parts={[`${outcomes.failed} failed`, `${outcomes.cancelled} cancelled`, `${outcomes.expired} expired`, ...uses]}
          href={hrefOf("sessions", { state: "ended" })}
        />
        <Figure
          name="Start p50 / p95"
          value={total === undefined ? "–" : `${formatDuration(total.p50_ms)} / ${formatDuration(total.p95_ms)}`}
          parts={[total === undefined ? "no start" : `${formatCount(total.starts)} starts`]}
        />
        <Figure
          name="Host"
          value={`${host.machines} of ${host.machines_max} machines`}
          parts={[...memory, ...disk, ...weak]}
          href={hrefOf("machines")}
          tone={host.shortage === null ? "" : "bad"}
        />
      </ul>
      {host.shortage !== null && (
        <p class="note bad" role="alert">
          No session is admitted: {host.shortage}.
        </p>
      )}
      {overview.is_partial && (
        <p class="note warn">The period has more sessions than are read. Causes, starts and hosts are of the newest ones.</p>
      )}
    </>
  );
}

function Causes({ overview, period }: { overview: Overview; period: string }) {
  const most = Math.max(1, ...overview.causes.map(({ sessions }) => sessions));
  return (
    <Panel title="Why sessions ended without a credential" id="causes">
      {overview.causes.length === 0 ? (
        <p class="empty">None in this period.</p>
      ) : (
        <ul class="bars">
          {overview.causes.map((cause) => (
            <li key={cause.verdict} data-verdict={cause.verdict}>
              <a href={hrefOf("sessions", { verdict: cause.verdict, period })} title={cause.remedy}>
                {words(cause.verdict)}
              </a>
              <meter min={0} max={most} value={cause.sessions} aria-label={words(cause.verdict)} />
              <span class="count">{formatCount(cause.sessions)}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function Starts({ overview }: { overview: Overview }) {
  return (
    <Panel title="Duration of starts" id="starts">
      {overview.starts.length === 0 ? (
        <p class="empty">No machine started in this period.</p>
      ) : (
        <>
          <StartChart history={overview.start_history} />
          <table class="compact">
            <thead>
              <tr>
                <th scope="col">Stage</th>
                <th scope="col">p50</th>
                <th scope="col">p95</th>
                <th scope="col">Starts</th>
              </tr>
            </thead>
            <tbody>
              {overview.starts.map(({ stage, starts, p50_ms, p95_ms }) => (
                <tr key={stage} data-stage={stage}>
                  <th scope="row">{STAGES[stage] ?? words(stage)}</th>
                  <td>{formatDuration(p50_ms)}</td>
                  <td>{formatDuration(p95_ms)}</td>
                  <td>{formatCount(starts)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </Panel>
  );
}

function Refused({ overview, period }: { overview: Overview; period: string }) {
  return (
    <Panel title="Refused hosts" id="refused" aside={<a href={hrefOf("hosts", { period })}>All, and how to allow one</a>}>
      {overview.refused_hosts.length === 0 ? (
        <p class="empty">None in this period.</p>
      ) : (
        <ul class="bars hosts">
          {overview.refused_hosts.map((host) => (
            <li key={`${host.host}:${host.port} ${host.provider} ${host.reason}`}>
              <span class="mono">
                {host.host}
                {host.port === 443 ? "" : `:${host.port}`}
              </span>
              <span class="muted">
                {host.provider}, {words(host.reason.replace(/^egress_/, "")).toLowerCase()}
              </span>
              <span class="count">{formatCount(host.sessions)}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
