// A table of sessions, with what an operator can do to each.

import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView } from "../api";
import { ConfirmDialog } from "../components/confirm-dialog";
import { hasEnded } from "../labels";
import { sessionPath } from "../pages";
import { ActionProblem, Age, SessionLink, SessionState, Table, useNow } from "./parts";

const COLUMNS = ["Session", "State", "Age", "Person", "Tool", "Caller", "Machine", "Viewers", "Actions"] as const;

interface TableProps {
  sessions: SessionView[];
  verdicts: Record<string, string>;
}

export function SessionTable({ sessions, verdicts }: TableProps) {
  const now_ms = useNow();
  const [to_stop, setToStop] = useState<SessionView | null>(null);
  const [failed, setFailed] = useState<{ id: string; problem: Problem } | null>(null);
  const stop = ({ id }: SessionView) => {
    setFailed(null);
    api.cancel(id).catch((error: unknown) => setFailed({ id, problem: toProblem(error) }));
  };
  return (
    <>
      <Table label="Sessions" columns={COLUMNS}>
        {sessions.map((session) => (
          <Fragment key={session.id}>
            <Row session={session} verdict={verdicts[session.id]} now_ms={now_ms} onStop={() => setToStop(session)} />
            {failed?.id !== session.id ? null : (
              <tr class="row-problem">
                <td colSpan={COLUMNS.length}>
                  <ActionProblem problem={failed.problem} />
                </td>
              </tr>
            )}
          </Fragment>
        ))}
      </Table>
      {to_stop && (
        <ConfirmDialog
          question={`Stop the session of ${to_stop.user_id ?? to_stop.owner_name}?`}
          detail={`${to_stop.provider_name}, ${to_stop.id}. Its machine is removed. The person must start again.`}
          confirm="Stop"
          cancel="Keep"
          onChoice={(choice) => {
            const session = to_stop;
            setToStop(null);
            if (choice === "confirm") stop(session);
          }}
        />
      )}
    </>
  );
}

interface RowProps {
  session: SessionView;
  verdict: string | undefined;
  now_ms: number;
  onStop: () => void;
}

function Row({ session, verdict, now_ms, onStop }: RowProps) {
  return (
    <tr data-session={session.id} data-status={session.status} data-queue={session.queue_position ?? undefined}>
      <td>
        <SessionLink id={session.id} />
      </td>
      <td>
        <SessionState session={session} verdict={verdict} />
      </td>
      <td class="number">
        <Age at={session.created_at} now_ms={now_ms} />
      </td>
      <td>{session.user_id ?? <span class="muted">–</span>}</td>
      <td>{session.provider_name}</td>
      <td>{session.owner_name}</td>
      <td class="number">
        {session.machine ?? `${session.generation} of ${session.generations_max}`}
        {session.host && ` on ${session.host}${session.host_is_silent ? " (silent)" : ""}`}
      </td>
      <td class="number">{session.viewers}</td>
      <td class="actions">
        {hasEnded(session.status) ? null : (
          <>
            <a href={sessionPath(session.id, { provider: session.provider, view_only: true })}>
              Watch<span class="visually-hidden"> {session.id}</span>
            </a>
            <button type="button" class="text" onClick={onStop}>
              Stop<span class="visually-hidden"> {session.id}</span>
            </button>
          </>
        )}
      </td>
    </tr>
  );
}
