// The end of a session: connected, or why not.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, type CredentialMeta, type SessionView, type TimelineEntry } from "../api";
import { PICK_PAGE } from "../pages";
import { statusWords } from "../labels";
import { Files } from "./files";
import { Timeline } from "./timeline";

interface EndedProps {
  session: SessionView;
  timeline: readonly TimelineEntry[];
  /** Whether the person may start another session here (a viewer may not). */
  may_start: boolean;
}

/** What a person does about an end that is nobody's wish. */
const REMEDIES: Record<string, string> = {
  machine_failed: "Start a new session; the timeline has the machine's end.",
  ready_timeout: "Start a new session; the timeline names the stage it waited for.",
  agent_mismatch: "The image has to be built again: anteroom image build.",
  controller_restarted: "Start a new session.",
  idle_expired: "Start a new session; it lives as long as its page is open.",
  deadline_expired: "Start a new session and sign in within its time.",
};

function returnHost(url: string): string | null {
  try {
    const parsed = new URL(url);
    return parsed.protocol === "https:" || parsed.protocol === "http:" ? parsed.host : null;
  } catch {
    return null;
  }
}

/** What is stored of this session; `null` while that is not known. */
function useCredentials(session: SessionView): CredentialMeta[] | null {
  const [credentials, set] = useState<CredentialMeta[] | null>(session.credential === null ? null : [session.credential]);
  useEffect(() => {
    if (session.status !== "completed") return;
    void api.sessionCredentials(session.id).then(set, () => undefined);
  }, [session.id, session.status]);
  return credentials;
}

function Onward({ session, may_start }: { session: SessionView; may_start: boolean }) {
  const host = session.return_url === null ? null : returnHost(session.return_url);
  const good = session.status === "completed";
  return (
    <div class="row onward">
      {host === null || session.return_url === null ? null : (
        <a class="button primary" href={session.return_url} rel="noreferrer">
          Go back to {host}
        </a>
      )}
      {may_start ? (
        <a class={host === null ? "button primary" : "button"} href={PICK_PAGE}>
          {good ? "Sign another tool in" : "Start a new session"}
        </a>
      ) : null}
    </div>
  );
}

export function Ended({ session, timeline, may_start }: EndedProps) {
  const credentials = useCredentials(session);
  const heading = useRef<HTMLHeadingElement>(null);
  // What had the focus may be gone with the machine; the end is what to read next.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  const words = statusWords(session.status);
  const good = session.status === "completed";
  const remedy = session.reason === null ? null : (REMEDIES[session.reason.code] ?? null);
  return (
    <div class={`ended ${words.tone}`}>
      <div class="ended-mark" aria-hidden="true">
        <svg viewBox="0 0 24 24">{good ? <path d="M5 12.5l4.5 4.5L19 7.5" /> : <path d="M7 7l10 10M17 7L7 17" />}</svg>
      </div>
      <h1 ref={heading} tabIndex={-1}>{session.credential_use === null || !good ? words.title : "The command has ended"}</h1>
      {good && session.credential_use !== null ? (
        <p class="lead">
          {session.credential_use.exit_code === null
            ? "How it ended is not known."
            : session.credential_use.exit_code === 0
              ? "It ended well. Its machine is not kept."
              : `It ended with exit code ${session.credential_use.exit_code}. Its machine is not kept; the timeline has more.`}
        </p>
      ) : good ? (
        <>
          <p class="lead">{session.provider_name} is signed in. Its machine is not kept; only the credential is.</p>
          <section class="panel" aria-label="Credential">
            {credentials?.map((credential) => <Files key={credential.id} files={credential.files} />)}
            <p class="quiet">
              {credentials?.length === 0 ? "The credential has been deleted since." : session.policy_sentence}
            </p>
          </section>
        </>
      ) : (
        <>
          <p class="lead">{session.reason?.sentence ?? "The server gave no reason."}</p>
          {remedy === null ? null : <p>{remedy}</p>}
          {session.credential === null ? <p class="quiet">No credential was stored. The machine is not kept.</p> : null}
        </>
      )}
      <Onward session={session} may_start={may_start} />
      <Timeline entries={timeline} open={session.status === "failed"} />
    </div>
  );
}
