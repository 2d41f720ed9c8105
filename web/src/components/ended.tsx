// An ended session: its result, or why it failed.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, type CredentialMeta, type SessionView, type TimelineEntry } from "../api";
import { statusLabel } from "../labels";
import { START_PATH } from "../pages";
import { Files } from "./files";
import { Timeline } from "./timeline";

interface EndedProps {
  session: SessionView;
  timeline: readonly TimelineEntry[];
  /** Whether the user may start another session here (a viewer may not). */
  can_start: boolean;
}

/** What the user can do, by the code of the reason. */
const REMEDIES: Record<string, string> = {
  machine_failed: "Start a new session. The timeline shows why the machine ended.",
  machine_compromised: "Ask the operator of this server before you start again: the diagnosis names what was stopped.",
  session_tampered: "Tell the operator of this server, then start a new session.",
  ready_timeout: "Start a new session. The timeline shows the stage that did not become ready.",
  agent_mismatch: "The machine image must be built again: anteroom image build.",
  controller_restarted: "Start a new session.",
  idle_expired: "Start a new session and keep its page open.",
  deadline_expired: "Start a new session and sign in before its time is up.",
};

/** The host of the return URL; `null` if it is not an http or https URL. */
function returnHost(url: string): string | null {
  try {
    const parsed = new URL(url);
    return parsed.protocol === "https:" || parsed.protocol === "http:" ? parsed.host : null;
  } catch {
    return null;
  }
}

/** The session's stored credential, as a list; `null` until it is known. */
function useCredentials(session: SessionView): CredentialMeta[] | null {
  const [credentials, setCredentials] = useState(session.credential === null ? null : [session.credential]);
  useEffect(() => {
    if (session.status !== "completed") return;
    void api.sessionCredentials(session.id).then(setCredentials, () => undefined);
  }, [session.id, session.status]);
  return credentials;
}

function EndedLinks({ session, can_start }: { session: SessionView; can_start: boolean }) {
  const host = session.return_url === null ? null : returnHost(session.return_url);
  return (
    <div class="row ended-links">
      {host === null || session.return_url === null ? null : (
        <a class="button primary" href={session.return_url} rel="noreferrer">
          Go back to {host}
        </a>
      )}
      {can_start ? (
        <a class={host === null ? "button primary" : "button"} href={START_PATH}>
          {session.status === "completed" ? "Connect another tool" : "Start a new session"}
        </a>
      ) : null}
    </div>
  );
}

/** The result of a command that used a stored credential. */
function commandResult(exit_code: number | null): string {
  if (exit_code === null) return "Its exit code is unknown.";
  if (exit_code === 0) return "It succeeded. The machine was deleted.";
  return `It ended with exit code ${exit_code}. The machine was deleted; the timeline has the details.`;
}

export function Ended({ session, timeline, can_start }: EndedProps) {
  const credentials = useCredentials(session);
  const heading = useRef<HTMLHeadingElement>(null);
  // The focused element may have been removed with the machine; move the focus to the result.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  const label = statusLabel(session.status);
  const completed = session.status === "completed";
  const remedy = session.reason === null ? null : (REMEDIES[session.reason.code] ?? null);
  return (
    <div class={`ended ${label.tone}`}>
      <div class="ended-icon" aria-hidden="true">
        <svg viewBox="0 0 24 24">{completed ? <path d="M5 12.5l4.5 4.5L19 7.5" /> : <path d="M7 7l10 10M17 7L7 17" />}</svg>
      </div>
      <h1 ref={heading} tabIndex={-1}>
        {session.credential_use === null || !completed ? label.title : "The command has ended"}
      </h1>
      {completed && session.credential_use !== null ? (
        <p class="lead">{commandResult(session.credential_use.exit_code)}</p>
      ) : completed ? (
        <>
          <p class="lead">{session.provider_name} is connected. The machine was deleted. You can close this page.</p>
          <section class="panel" aria-label="Credential">
            {credentials?.map((credential) => <Files key={credential.id} files={credential.files} />)}
            <p class="muted">{credentials?.length === 0 ? "The credential has been removed." : session.policy_sentence}</p>
          </section>
        </>
      ) : (
        <>
          <p class="lead">{session.reason?.sentence ?? "The server gave no reason."}</p>
          {remedy === null ? null : <p>{remedy}</p>}
          {session.credential === null ? <p class="muted">No credential was stored. The machine was deleted.</p> : null}
        </>
      )}
      <EndedLinks session={session} can_start={can_start} />
      <Timeline entries={timeline} open={session.status === "failed"} />
    </div>
  );
}
