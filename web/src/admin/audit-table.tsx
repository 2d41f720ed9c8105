// Records of the audit trail as rows of a table.

import { formatCount } from "./format";
import type { AuditRecord } from "./api";
import { SessionLink, Time } from "./parts";

export const AUDIT_COLUMNS = ["Number", "Time", "Who", "Did", "Result", "Session", "About", "From"] as const;

export function AuditRow({ record, now_ms }: { record: AuditRecord; now_ms: number }) {
  const details = Object.entries(record.details ?? {}).map(([name, value]) => `${name}: ${value}`);
  const about = [record.user, record.credential, record.caller].filter((text) => typeof text === "string");
  return (
    <tr data-action={record.action} data-actor={record.actor.name ?? record.actor.kind}>
      <td class="number">{record.seq}</td>
      <td>
        <Time at={new Date(record.at_ms).toISOString()} now_ms={now_ms} />
      </td>
      <td title={record.actor.id ?? undefined}>
        {record.actor.name ?? record.actor.kind} <span class="muted">{record.actor.role ?? ""}</span>
      </td>
      <td>
        {record.action}
        {record.count > 1 ? <span class="muted"> × {formatCount(record.count)}</span> : null}
      </td>
      <td>
        <span class={`state ${record.outcome === "ok" ? "good" : "warn"}`}>{record.outcome}</span>
      </td>
      <td>{typeof record.session === "string" ? <SessionLink id={record.session} /> : null}</td>
      <td class="wrap">{[...about, ...details].join(", ")}</td>
      <td class="mono">{record.peer ?? ""}</td>
    </tr>
  );
}
