// /admin/machines: how full the host is, what isolates machines, which tools the image has, and each check of the server's health.

import { api, type Health } from "../../api";
import { IsolationNote } from "../../components/isolation-note";
import { clock } from "../../clock";
import { adminApi, type Overview } from "../api";
import { formatMib } from "../format";
import { Loading, Panel, Table } from "../parts";
import { useData } from "../use-data";

const RELOAD_EVERY_MS = 15_000;

export function MachinesPage() {
  // A period without length: only what is now.
  const { value: overview, problem } = useData("capacity", () => adminApi.overview(clock.now_ms()), RELOAD_EVERY_MS);
  const { value: health } = useData("health", () => api.health(), RELOAD_EVERY_MS);
  const { value: providers } = useData("providers", () => api.providers());
  return (
    <>
      <h1>Machines and image</h1>
      {overview === null ? <Loading problem={problem} what="the host's capacity" /> : <Capacity overview={overview} />}
      <IsolationNote isolation={health?.isolation ?? null} />
      {health === null ? null : <Checks health={health} />}
      <Panel title="Tools in the image" id="tools">
        {providers === null ? (
          <p class="muted">Loading…</p>
        ) : (
          <Table label="Tools in the image" columns={["Tool", "In the image", "Tested with", "Methods"]}>
            {providers.map((provider) => (
              <tr key={provider.id} data-provider={provider.id}>
                <td>{provider.name}</td>
                <td>
                  {provider.available ? (
                    <span class="state good">{provider.version ?? "yes"}</span>
                  ) : (
                    <span class="state quiet" title={provider.unavailable ?? undefined}>
                      Not installed
                    </span>
                  )}
                </td>
                <td>{provider.tested_version ?? <span class="muted">–</span>}</td>
                <td>{provider.methods.map(({ id }) => id).join(", ")}</td>
              </tr>
            ))}
          </Table>
        )}
      </Panel>
    </>
  );
}

function Capacity({ overview: { host, live } }: { overview: Overview }) {
  const gauges: [string, number, number, string][] = [
    ["Machines", host.machines, host.machines_max, `${host.machines} of ${host.machines_max}, ${live.queued} sessions queued`],
  ];
  if (host.memory_total_mib !== null && host.memory_available_mib !== null) {
    const used_mib = host.memory_total_mib - host.memory_available_mib;
    const each = host.machine_memory_mib_max === 0 ? "" : `, ${formatMib(host.machine_memory_mib_max)} for each machine`;
    gauges.push(["Memory", used_mib, host.memory_total_mib, `${formatMib(used_mib)} of ${formatMib(host.memory_total_mib)} used${each}`]);
  }
  return (
    <Panel title="Capacity" id="capacity">
      <ul class="bars wide">
        {gauges.map(([name, value, max, text]) => (
          <li key={name}>
            <span>{name}</span>
            <meter min={0} max={max} value={value} aria-label={name} />
            <span class="count">{text}</span>
          </li>
        ))}
        {host.disk_free_mib === null ? null : (
          <li>
            <span>Disk</span>
            <span />
            <span class="count">{formatMib(host.disk_free_mib)} free</span>
          </li>
        )}
      </ul>
      {host.shortage === null ? null : <p class="note bad">No session is admitted: {host.shortage}.</p>}
    </Panel>
  );
}

const HEALTH_TONES: Record<string, string> = { ok: "good", degraded: "warn", down: "bad" };

function Checks({ health }: { health: Health }) {
  return (
    <Panel title="Health" id="health" aside={<span class="muted">Anteroom {health.version}</span>}>
      <Table label="Health" columns={["Part", "State", "Observed"]}>
        {health.checks.map(({ name, status, detail }) => (
          <tr key={name} data-check={name}>
            <td>{name}</td>
            <td>
              <span class={`state ${HEALTH_TONES[status] ?? ""}`}>{status}</span>
            </td>
            <td class="wrap">{detail}</td>
          </tr>
        ))}
      </Table>
    </Panel>
  );
}
