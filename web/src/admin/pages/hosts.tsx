// /admin/hosts: the hosts that machines asked for and did not reach, and the change of the configuration that would allow each.

import { useState } from "preact/hooks";
import { toProblem, type Problem } from "../../api";
import { CopyButton } from "../../components/copy-button";
import { ProblemNote } from "../../components/problem-note";
import { clock } from "../../clock";
import { adminApi } from "../api";
import { beginOf, formatCount, words } from "../format";
import { Loading, PeriodChoice, periodOf, SessionLink, Time, useNow } from "../parts";
import { useData } from "../use-data";

/** Allows a host in the newest session that asked for it, which is running. */
function GrantButton({ session, host }: { session: string; host: string }) {
  const [state, setState] = useState<"offered" | "busy" | "granted">("offered");
  const [problem, setProblem] = useState<Problem | null>(null);
  const grant = () => {
    setState("busy");
    setProblem(null);
    adminApi.grantHost(session, host).then(
      () => setState("granted"),
      (error: unknown) => {
        setState("offered");
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <div class="row">
      <button type="button" class="small" disabled={state !== "offered"} data-action="grant" onClick={grant}>
        Allow it in this session
      </button>
      <span role="status" class="muted">
        {state === "granted" ? "Allowed until the session ends." : "Without a restart, at port 443, until the session ends."}
      </span>
      {problem && <ProblemNote problem={problem} />}
    </div>
  );
}

export function HostsPage({ query }: { query: URLSearchParams }) {
  const period = periodOf(query, "day");
  const { value: hosts, problem } = useData(`hosts ${period}`, () => adminApi.refusedHosts(beginOf(period, clock.now_ms())), {
    every_ms: 30_000,
    with_sessions: true,
  });
  const now_ms = useNow();
  return (
    <>
      <div class="page-head">
        <h1>Refused hosts</h1>
        <PeriodChoice path="hosts" query={query} period={period} />
      </div>
      <p class="muted">Hosts that machines asked for and did not reach. Browsers ask for many that no tool needs.</p>
      {hosts === null ? (
        <Loading problem={problem} what="hosts" />
      ) : hosts.length === 0 ? (
        <p class="empty">None in this period.</p>
      ) : (
        <ul class="host-list">
          {hosts.map((host) => (
            <li key={`${host.host}:${host.port} ${host.provider} ${host.reason}`} class="panel" data-host={host.host}>
              <div class="host-head">
                <strong class="mono">
                  {host.host}:{host.port}
                </strong>
                <span class="state warn">{words(host.reason)}</span>
                <span>{host.provider}</span>
                <span class="muted">
                  {host.sessions === 1 ? "1 session" : `${formatCount(host.sessions)} sessions`}, last{" "}
                  <Time at={host.last_at} now_ms={now_ms} /> in <SessionLink id={host.newest} />
                </span>
              </div>
              {host.grantable ? <GrantButton key={host.newest} session={host.newest} host={host.host} /> : null}
              {host.descriptor_change === null ? (
                <p class="muted">The host is allowed and was not reached: check this host's connection and name server, or its address in egress.overrides.</p>
              ) : (
                <details>
                  <summary>Allow it for {host.provider}</summary>
                  <p>
                    Put this into the server's configuration and reload it (<code>systemctl reload anteroom</code>, or SIGHUP): it counts
                    for new sessions. Only allow hosts that the tool needs.
                  </p>
                  <pre class="change" tabIndex={0}>{host.descriptor_change}</pre>
                  <CopyButton text={host.descriptor_change} name="configuration" />
                </details>
              )}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
