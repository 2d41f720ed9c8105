// /admin/audit: who did what, and whether the trail is intact.

import { useState } from "preact/hooks";
import { toProblem, type Problem } from "../../api";
import { ProblemNote } from "../../components/problem-note";
import { clock } from "../../clock";
import { adminApi, type AuditQuery, type AuditRecord, type Verification } from "../api";
import { AUDIT_COLUMNS, AuditRow } from "../audit-table";
import { beginOf, formatCount, isPeriod } from "../format";
import { Loading, PeriodChoice, Table, useNow } from "../parts";
import { hrefOf, navigate } from "../router";
import { useData } from "../use-data";

export function AuditPage({ query }: { query: URLSearchParams }) {
  return (
    <>
      <div class="page-head">
        <h1>Audit</h1>
        <Verify />
      </div>
      <Filters query={query} />
      <Records key={query.toString()} query={query} />
    </>
  );
}

function toAuditQuery(query: URLSearchParams): AuditQuery {
  const text = (name: string) => query.get(name) ?? undefined;
  const period = query.get("period") ?? "";
  return {
    actor: text("actor"),
    action: text("action"),
    session: text("session"),
    caller: text("caller"),
    since_ms: isPeriod(period) ? beginOf(period, clock.now_ms()) : undefined,
  };
}

function Records({ query }: { query: URLSearchParams }) {
  const now_ms = useNow();
  const [older, setOlder] = useState<{ records: AuditRecord[]; next_cursor: number | null } | null>(null);
  const { value: newest, problem } = useData("audit", () => adminApi.audit(toAuditQuery(query)));
  const [older_problem, setOlderProblem] = useState<Problem | null>(null);
  if (newest === null) return <Loading problem={problem} what="records" />;
  const records = [...newest.records, ...(older?.records ?? [])];
  if (records.length === 0) return <p class="empty">No record matches.</p>;
  const cursor = older === null ? newest.next_cursor : older.next_cursor;
  const loadOlder = () => {
    adminApi.audit({ ...toAuditQuery(query), cursor: cursor ?? undefined }).then(
      (page) => setOlder({ records: [...(older?.records ?? []), ...page.records], next_cursor: page.next_cursor }),
      (error: unknown) => setOlderProblem(toProblem(error)),
    );
  };
  return (
    <>
      <Table label="Audit records" columns={AUDIT_COLUMNS}>
        {records.map((record) => (
          <AuditRow key={record.seq} record={record} now_ms={now_ms} />
        ))}
      </Table>
      {older_problem === null ? null : <ProblemNote problem={older_problem} />}
      {cursor === null ? null : (
        <button type="button" class="small" onClick={loadOlder}>
          Older records
        </button>
      )}
    </>
  );
}

function Filters({ query }: { query: URLSearchParams }) {
  const current = Object.fromEntries(query);
  const period = query.get("period") ?? "";
  const fields = [
    ["session", "Session id"],
    ["actor", "Who: name or id"],
    ["action", "Action, or its beginning: desktop."],
    ["caller", "Id of a token: by or about it"],
  ] as const;
  return (
    <form
      class="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const data = new FormData(event.currentTarget);
        const chosen = fields.map(([name]) => [name, String(data.get(name) ?? "").trim()]);
        navigate(hrefOf("audit", { ...current, ...Object.fromEntries(chosen) }));
      }}
    >
      {fields.map(([name, label]) => (
        <input key={`${name} ${query.get(name) ?? ""}`} name={name} aria-label={label} placeholder={label} defaultValue={query.get(name) ?? ""} />
      ))}
      <PeriodChoice path="audit" query={query} period={isPeriod(period) ? period : ""} />
      <button type="submit">Search</button>
    </form>
  );
}

/** Verifies the whole trail when it is asked for: this reads all its files. */
function Verify() {
  const [state, setState] = useState<Verification | "running" | Problem | null>(null);
  const verify = () => {
    setState("running");
    adminApi.verifyAudit().then(setState, (error: unknown) => setState(toProblem(error)));
  };
  if (state !== null && state !== "running") {
    if ("sentence" in state) return <span class="state bad">{state.sentence}</span>;
    return (
      <span class={`state ${state.intact ? "good" : "bad"}`} role="status" data-intact={state.intact}>
        {state.intact
          ? `Intact: ${formatCount(state.records)} records`
          : `Changed: ${state.findings.map((finding) => Object.values(finding).join(" ")).join("; ")}`}
      </span>
    );
  }
  return (
    <button type="button" class="small" disabled={state === "running"} aria-busy={state === "running"} onClick={verify}>
      {state === "running" ? "Verifying…" : "Verify the trail"}
    </button>
  );
}
