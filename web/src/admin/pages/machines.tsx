// /admin/machines: how full the host is, which machines run, the image, what isolates machines, and each check of the server's health.

import { api, type Health } from "../../api";
import { CopyButton } from "../../components/copy-button";
import { IsolationNote } from "../../components/isolation-note";
import { clock } from "../../clock";
import { adminApi, type MachineList, type Overview } from "../api";
import { ClusterHosts } from "../cluster-hosts";
import { formatCount, formatDuration, formatMib, formatSize, words } from "../format";
import { Age, LiveMark, Loading, Panel, SessionLink, Table, Time, useNow } from "../parts";
import { useData } from "../use-data";

const REFRESH = { every_ms: 15_000, with_sessions: true };

export function MachinesPage() {
  // A period without length: only what is now.
  const { value: overview, problem } = useData("capacity", () => adminApi.overview(clock.now_ms()), REFRESH);
  const { value: list, problem: list_problem } = useData("machines", () => adminApi.machines(), REFRESH);
  const { value: health } = useData("health", () => api.health(), REFRESH);
  return (
    <>
      <div class="page-head">
        <h1>Machines and image</h1>
        <LiveMark />
      </div>
      {overview === null ? <Loading problem={problem} what="the host's capacity" /> : <Capacity overview={overview} />}
      <ClusterHosts />
      <IsolationNote isolation={health?.isolation ?? null} />
      {list === null ? <Loading problem={list_problem} what="machines" /> : <Machines machines={list.machines} />}
      {list && <Image image={list.image} />}
      <Tools />
      {health && <Checks health={health} />}
    </>
  );
}

function Machines({ machines }: { machines: MachineList["machines"] }) {
  const now_ms = useNow();
  return (
    <Panel title="Machines" id="machines" aside={<span class="muted">{formatCount(machines.length)}</span>}>
      {machines.length === 0 ? (
        <p class="empty">No machine runs.</p>
      ) : (
        <Table label="Machines" columns={["Machine", "State", "Age", "Session", "Tool", "Memory"]}>
          {machines.map((machine) => (
            <tr key={machine.id} data-machine={machine.id} data-of={machine.session ?? undefined}>
              <td>
                <code>{machine.id}</code>
              </td>
              <td>
                <span class={`state ${machine.state === "ready" ? "good" : "busy"}`}>
                  {words(machine.state)}
                  {machine.stage === null ? "" : `: ${words(machine.stage).toLowerCase()}`}
                </span>
              </td>
              <td class="number">
                <Age at={machine.requested_at} now_ms={now_ms} />
              </td>
              <td>{machine.session === null ? <span class="muted">–</span> : <SessionLink id={machine.session} />}</td>
              <td>{machine.provider ?? <span class="muted">–</span>}</td>
              <td class="number">{machine.memory_mib === null ? <span class="muted">–</span> : formatMib(machine.memory_mib)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

function Image({ image }: { image: MachineList["image"] }) {
  const now_ms = useNow();
  const bytes = image.files.reduce((sum, file) => sum + file.bytes, 0);
  const sizes = image.files.map((file) => `${file.name} ${formatSize(file.bytes)}`).join(", ");
  return (
    <Panel title="Image of new machines" id="image">
      <dl class="facts">
        <div>
          <dt>Digest</dt>
          <dd class="row">
            <code data-digest>{image.digest}</code>
            <CopyButton text={image.digest} name="the digest" />
          </dd>
        </div>
        {image.built_at === null ? null : (
          <div>
            <dt>Built</dt>
            <dd>
              <Time at={image.built_at} now_ms={now_ms} />, {formatDuration(now_ms - Date.parse(image.built_at))} ago
            </dd>
          </div>
        )}
        {image.kernel_version === null ? null : (
          <div>
            <dt>Kernel</dt>
            <dd>{image.kernel_version}</dd>
          </div>
        )}
        {image.files.length === 0 ? null : (
          <div>
            <dt>Size</dt>
            <dd>
              {formatSize(bytes)}: {sizes}
            </dd>
          </div>
        )}
        <div>
          <dt>Runs as</dt>
          <dd>{image.kind}</dd>
        </div>
      </dl>
    </Panel>
  );
}

function Tools() {
  const { value: providers, problem } = useData("providers", () => api.providers());
  return (
    <Panel title="Tools in the image" id="tools">
      {providers === null ? (
        <Loading problem={problem} what="tools" />
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
  );
}

function Capacity({ overview: { host, live } }: { overview: Overview }) {
  const waits = live.queue_wait_ms_max === null ? "" : ` for up to ${formatDuration(live.queue_wait_ms_max)}`;
  const gauges: [string, number, number, string][] = [
    ["Machines", host.machines, host.machines_max, `${host.machines} of ${host.machines_max}, ${live.queued} queued${waits}`],
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
          <li key={name} data-gauge={name}>
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
