// The hosts of the cluster, on /admin/machines: state, room, version, last heartbeat. Nothing is shown for a server that is alone.

import { adminApi } from "./api";
import { formatCount } from "./format";
import { Age, Panel, Table, useNow } from "./parts";
import { useData } from "./use-data";

const REFRESH = { every_ms: 5_000 };

const TITLE = "Hosts of the cluster";
const NONE = "–";

export function ClusterHosts() {
  const now_ms = useNow();
  const { value: list } = useData("cluster_hosts", () => adminApi.hosts(), REFRESH);
  if (list === null || list.hosts.length === 0) return null;
  return (
    <Panel title={TITLE} id="cluster-hosts">
      <Table label={TITLE} columns={["Host", "State", "Sessions", "Machines", "Version", "Heartbeat"]}>
        {list.hosts.map((host) => (
          <tr key={host.id} data-host={host.name}>
            <td>{host.name}</td>
            <td>
              <span class={`state ${host.state === "answers" ? "good" : "bad"}`}>{host.state}</span>
              {host.draining ? " drains" : ""}
              {host.id === list.own ? " (this host)" : ""}
            </td>
            <td class="number">{formatCount(host.sessions)}</td>
            <td class="number">{host.machines == null ? NONE : `${host.machines} of ${host.machines_max ?? NONE}`}</td>
            <td>{host.version ?? NONE}</td>
            <td class="number">{host.heartbeat_at == null ? NONE : <Age at={host.heartbeat_at} now_ms={now_ms} />}</td>
          </tr>
        ))}
      </Table>
    </Panel>
  );
}
