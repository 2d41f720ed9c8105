// /admin/hosts: the hosts that machines asked for and did not reach, and the change of the configuration that would allow each.

import { CopyButton } from "../../components/copy-button";
import { clock } from "../../clock";
import { adminApi } from "../api";
import { beginOf, formatCount, words } from "../format";
import { Loading, PeriodChoice, periodOf, SessionLink, Time, useNow } from "../parts";
import { useData } from "../use-data";

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
              {host.descriptor_change === null ? (
                <p class="muted">The host is allowed and was not reached: check this host's connection and name server.</p>
              ) : (
                <details>
                  <summary>Allow it for {host.provider}</summary>
                  <p>Put this into the server's configuration and restart the server. Only allow hosts that the tool needs.</p>
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
