// /admin/sessions/{id}: how one session started, why it is in its state, and what happened.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView, type TimelineEntry } from "../../api";
import { ConfirmDialog } from "../../components/confirm-dialog";
import { CopyButton } from "../../components/copy-button";
import { ProblemNote } from "../../components/problem-note";
import { Timeline } from "../../components/timeline";
import { hasEnded } from "../../labels";
import { sessionPath } from "../../pages";
import { SessionStream } from "../../session-stream";
import { useStore } from "../../store";
import { adminApi, type Diagnosis } from "../api";
import { words } from "../format";
import { Loading, Panel, SessionState, Time, useNow } from "../parts";
import { hrefOf } from "../router";
import { useData } from "../use-data";
import { Waterfall } from "../waterfall";

const DIAGNOSE_EVERY_MS = 10_000;

export function SessionPage({ id }: { id: string }) {
  const [stream] = useState(() => new SessionStream(id));
  useEffect(() => {
    stream.start();
    return () => stream.stop();
  }, [stream]);
  const { session, timeline, problem } = useStore(stream.state);
  const ended = session !== null && hasEnded(session.status);
  const { value: diagnosis } = useData(
    `diagnosis ${session?.status ?? ""} ${timeline.length}`,
    () => adminApi.diagnosis(id),
    ended ? undefined : DIAGNOSE_EVERY_MS,
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
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <Actions session={session} />
      <div class="panels">
        <Facts session={session} />
        <Verdict diagnosis={diagnosis} timeline={timeline} />
        <Panel title="Start" id="start">
          <Waterfall timeline={timeline} />
        </Panel>
      </div>
      <Timeline entries={timeline} open />
      <Log id={id} changes={timeline.length} />
    </>
  );
}

function Actions({ session }: { session: SessionView }) {
  const [asked, setAsked] = useState<"stop" | "replace" | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [is_busy, setBusy] = useState(false);
  const [link, setLink] = useState<string | null>(null);
  const onError = (error: unknown) => setProblem(toProblem(error));
  const is_active = !hasEnded(session.status);
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
            <button
              type="button"
              onClick={() => {
                setProblem(null);
                adminApi.createLink(session.id).then(setLink, onError);
              }}
            >
              New link for the person
            </button>
            <button type="button" onClick={() => setAsked("replace")}>
              Replace machine
            </button>
            <button type="button" class="danger" onClick={() => setAsked("stop")}>
              Stop
            </button>
          </>
        ) : null}
        <button type="button" disabled={is_busy} aria-busy={is_busy} onClick={makeBundle}>
          Support bundle
        </button>
        <a class="button" href={hrefOf("audit", { session: session.id })}>
          Who did what
        </a>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {link === null ? null : (
        <div class="note row" data-link>
          <span>This link works once. Send it to the person; it lets its browser act in the session.</span>
          <code>{link}</code>
          <CopyButton text={link} name="the link" />
        </div>
      )}
      {asked === null ? null : (
        <ConfirmDialog
          question={asked === "stop" ? "Stop this session?" : "Replace the machine?"}
          detail={
            asked === "stop"
              ? "Its machine is removed. The person must start again."
              : "The person's sign-in starts again in a new machine."
          }
          confirm={asked === "stop" ? "Stop" : "Replace"}
          cancel="Keep"
          onChoice={(choice) => {
            setAsked(null);
            if (choice !== "confirm") return;
            setProblem(null);
            (asked === "stop" ? api.cancel(session.id) : api.restart(session.id)).catch(onError);
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

function Facts({ session }: { session: SessionView }) {
  const now_ms = useNow();
  const facts: [string, preact.ComponentChildren][] = [
    ["Session", <code key="id">{session.id}</code>],
    ["Person", session.user_id ?? "–"],
    ["Caller", <a key="caller" href={hrefOf("sessions", { caller: session.owner_name })}>{session.owner_name}</a>],
    ["Method", session.method],
    ["Machine", session.machine ?? `${session.generation} of at most ${session.generations_max}`],
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

/** The server's log lines about the session. */
function Log({ id, changes }: { id: string; changes: number }) {
  const now_ms = useNow();
  const [is_open, setOpen] = useState(false);
  const { value: lines, problem } = useData(`log ${is_open} ${changes}`, () => (is_open ? adminApi.log(id) : Promise.resolve([])));
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
