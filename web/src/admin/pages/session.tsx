// /admin/sessions/{id}: how one session started, why it is in its state, and what happened.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView, type TimelineEntry } from "../../api";
import { ConfirmDialog, type ConfirmDialogTexts } from "../../components/confirm-dialog";
import { CopyButton } from "../../components/copy-button";
import { ProblemNote } from "../../components/problem-note";
import { Timeline } from "../../components/timeline";
import { hasEnded } from "../../labels";
import { sessionPath } from "../../pages";
import { SessionStream } from "../../session-stream";
import { useStore } from "../../store";
import { adminApi, type Diagnosis } from "../api";
import { AUDIT_COLUMNS, AuditRow } from "../audit-table";
import { words } from "../format";
import { ActionProblem, LiveMark, Loading, Panel, SessionState, Table, Time, useNow } from "../parts";
import { hrefOf } from "../router";
import { useData } from "../use-data";
import { Waterfall } from "../waterfall";

const DIAGNOSE_EVERY_MS = 10_000;

export function SessionPage({ id }: { id: string }) {
  const [stream] = useState(() => new SessionStream(id));
  useEffect(() => {
    stream.start();
    const onReturn = () => {
      if (document.visibilityState === "visible") stream.retryNow();
    };
    document.addEventListener("visibilitychange", onReturn);
    window.addEventListener("online", onReturn);
    return () => {
      document.removeEventListener("visibilitychange", onReturn);
      window.removeEventListener("online", onReturn);
      stream.stop();
    };
  }, [stream]);
  const { session, timeline, status: stream_status, problem } = useStore(stream.state);
  const ended = session !== null && hasEnded(session.status);
  const { value: diagnosis } = useData(
    "diagnosis",
    () => adminApi.diagnosis(id),
    { every_ms: ended ? undefined : DIAGNOSE_EVERY_MS, when: `${session?.status ?? ""} ${timeline.length}` },
  );
  if (session === null) {
    return (
      <>
        <h1>Session</h1>
        <Loading problem={problem} what="the session" />
      </>
    );
  }
  return (
    <>
      <p class="crumbs">
        <a href={hrefOf("sessions")}>Sessions</a>
      </p>
      <div class="page-head">
        <h1>
          {session.provider_name}
          {session.user_id === null ? "" : ` for ${session.user_id}`}
        </h1>
        <SessionState session={session} verdict={diagnosis?.verdict} />
        {ended ? null : <LiveMark is_live={stream_status !== "connecting" && stream_status !== "lost"} />}
      </div>
      {problem && <ProblemNote problem={problem} />}
      <Actions session={session} />
      <div class="panels">
        <Facts session={session} timeline={timeline} />
        <Verdict diagnosis={diagnosis} timeline={timeline} />
        <Panel title="Start" id="start">
          <Waterfall timeline={timeline} />
        </Panel>
      </div>
      <Deeds id={id} status={session.status} />
      <Timeline entries={timeline} open />
      <Log id={id} changes={timeline.length} />
    </>
  );
}

type Question = "stop" | "replace" | "link";

const QUESTIONS: Record<Question, ConfirmDialogTexts> = {
  stop: {
    question: "Stop this session?",
    detail: "Its machine is removed. The person must start again.",
    confirm: "Stop",
    cancel: "Keep",
  },
  replace: {
    question: "Replace the machine?",
    detail: "The person's sign-in starts again in a new machine.",
    confirm: "Replace",
    cancel: "Keep",
  },
  link: {
    question: "Make a new link?",
    detail:
      "The first browser that opens it can act in this session as its person. Browsers in the session stay, and so does an unused link until it expires.",
    confirm: "Make a link",
    cancel: "Do not",
  },
};

function Actions({ session }: { session: SessionView }) {
  const [asked, setAsked] = useState<Question | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [is_busy, setBusy] = useState(false);
  const [link, setLink] = useState<string | null>(null);
  const onError = (error: unknown) => setProblem(toProblem(error));
  const is_active = !hasEnded(session.status);
  const act = (action: Question) => {
    setProblem(null);
    if (action === "stop") api.cancel(session.id).catch(onError);
    else if (action === "replace") api.restart(session.id).catch(onError);
    else adminApi.createLink(session.id).then(setLink, onError);
  };
  const makeBundle = () => {
    setProblem(null);
    setBusy(true);
    adminApi
      .createBundle(session.id)
      .then(save, onError)
      .finally(() => setBusy(false));
  };
  return (
    <>
      <div class="row page-actions">
        {is_active ? (
          <>
            <a class="button" href={sessionPath(session.id, { provider: session.provider, view_only: true })}>
              Watch
            </a>
            <button type="button" data-action="link" onClick={() => setAsked("link")}>
              New link for the person
            </button>
            <button type="button" data-action="replace" onClick={() => setAsked("replace")}>
              Replace machine
            </button>
            <button type="button" class="danger" data-action="stop" onClick={() => setAsked("stop")}>
              Stop
            </button>
          </>
        ) : null}
        <button type="button" disabled={is_busy} aria-busy={is_busy} onClick={makeBundle}>
          Support bundle
        </button>
      </div>
      {problem && <ActionProblem problem={problem} />}
      {link && (
        <div class="note row" data-link>
          <span>This link works once. Send it to the person; it lets its browser act in the session.</span>
          <code>{link}</code>
          <CopyButton text={link} name="the link" />
        </div>
      )}
      {asked && (
        <ConfirmDialog
          {...QUESTIONS[asked]}
          onChoice={(choice) => {
            setAsked(null);
            if (choice === "confirm") act(asked);
          }}
        />
      )}
    </>
  );
}

/** Lets the browser save a file. */
function save({ name, content }: { name: string; content: Blob }): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function Facts({ session, timeline }: { session: SessionView; timeline: readonly TimelineEntry[] }) {
  const now_ms = useNow();
  const facts: [string, preact.ComponentChildren][] = [
    ["Session", <code key="id">{session.id}</code>],
    ["Person", session.user_id ?? "–"],
    ["Caller", <a key="caller" href={hrefOf("sessions", { caller: session.owner_name })}>{session.owner_name}</a>],
    ["Method", session.method],
    ["Machine", session.machine ?? <MachineOf key="machine" session={session} timeline={timeline} />],
    ["Viewers", String(session.viewers)],
    ["Began", <Time key="began" at={session.created_at} now_ms={now_ms} />],
  ];
  facts.push(
    session.ended_at === null
      ? ["Ends at the latest", <Time key="ends" at={session.deadline_at} now_ms={now_ms} />]
      : ["Ended", <Time key="ended" at={session.ended_at} now_ms={now_ms} />],
  );
  if (session.credential !== null) facts.push(["Credential", <code key="credential">{session.credential.id}</code>]);
  return (
    <Panel title="Session" id="facts">
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}

/** The machine of the session, which is the one that was requested last. */
function MachineOf({ session, timeline }: { session: SessionView; timeline: readonly TimelineEntry[] }) {
  const data = timeline.findLast(({ kind }) => kind === "machine_requested")?.data as { machine?: string } | undefined;
  const number = `${session.generation} of at most ${session.generations_max}`;
  if (data?.machine === undefined) return <>{number}</>;
  return (
    <>
      <a class="mono" href={hrefOf("machines")} data-machine={data.machine}>
        {data.machine}
      </a>
      , {number}
    </>
  );
}

function Verdict({ diagnosis, timeline }: { diagnosis: Diagnosis | null; timeline: readonly TimelineEntry[] }) {
  const now_ms = useNow();
  if (diagnosis === null) {
    return (
      <Panel title="Verdict" id="verdict">
        <p class="muted">{timeline.length === 0 ? "Loading…" : "Reading the evidence…"}</p>
      </Panel>
    );
  }
  return (
    <Panel title="Verdict" id="verdict">
      <p data-verdict={diagnosis.verdict}>
        <strong>{words(diagnosis.verdict)}.</strong> {diagnosis.sentence}
      </p>
      <p>{diagnosis.remedy}</p>
      <ol class="evidence">
        {diagnosis.evidence.map((entry) => (
          <li key={entry.number}>
            <Time at={entry.at} now_ms={now_ms} /> {entry.sentence}
          </li>
        ))}
      </ol>
      <ul class="chain">
        {diagnosis.chain.map(({ component, state, detail }) => (
          <li key={component} class={`part ${state}`} title={detail}>
            {words(component)}
            <span class="visually-hidden">: {words(state)}</span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** Who did what in the session: the newest records of the audit trail. Reading them is recorded there, so they are read on demand. */
function Deeds({ id, status }: { id: string; status: string }) {
  const now_ms = useNow();
  const [is_open, setOpen] = useState(false);
  const load = () => (is_open ? adminApi.audit({ session: id }).then((page) => page.records) : Promise.resolve([]));
  const { value: records, problem } = useData(`deeds ${is_open}`, load, { when: status });
  return (
    <details class="deeds" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Who did what</summary>
      {!is_open ? null : records === null ? (
        <Loading problem={problem} what="records" />
      ) : records.length === 0 ? (
        <p class="empty">No record is about this session.</p>
      ) : (
        <Table label="Who did what" columns={AUDIT_COLUMNS}>
          {records.map((record) => (
            <AuditRow key={record.seq} record={record} now_ms={now_ms} />
          ))}
        </Table>
      )}
    </details>
  );
}

/** The server's log lines about the session. */
function Log({ id, changes }: { id: string; changes: number }) {
  const now_ms = useNow();
  const [is_open, setOpen] = useState(false);
  const { value: lines, problem } = useData(`log ${is_open}`, () => (is_open ? adminApi.log(id) : Promise.resolve([])), { when: String(changes) });
  return (
    <details class="log" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Log lines</summary>
      {!is_open ? null : lines === null ? (
        <Loading problem={problem} what="log lines" />
      ) : lines.length === 0 ? (
        <p class="empty">The log has no line about this session.</p>
      ) : (
        <ol>
          {lines.map((line, index) => {
            const { timestamp, level, message, ...rest } = line as Record<string, unknown>;
            return (
              <li key={index} class={`line ${String(level).toLowerCase()}`}>
                <Time at={String(timestamp)} now_ms={now_ms} /> <span class="level">{String(level)}</span> {String(message ?? "")}{" "}
                <span class="muted">
                  {Object.entries(rest)
                    .map(([name, value]) => `${name}=${String(value)}`)
                    .join(" ")}
                </span>
              </li>
            );
          })}
        </ol>
      )}
    </details>
  );
}
