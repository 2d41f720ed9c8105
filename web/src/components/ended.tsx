// An ended session: its result, or why it failed.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type CredentialMeta, type SessionView } from "../api";
import { START_PATH } from "../pages";
import { texts } from "../texts";
import { TryAgainButton } from "./failure-actions";
import { Files } from "./files";

interface EndedLinksProps {
  session: SessionView;
  /** Whether the user may start another session here (a viewer may not). */
  can_start: boolean;
}

interface EndedProps extends EndedLinksProps {
  /** Only for operators. */
  details: ComponentChildren;
}

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

function EndedLinks({ session, can_start }: EndedLinksProps) {
  const host = session.return_url === null ? null : returnHost(session.return_url);
  const can_retry = can_start && session.for_person.actions.includes("start_session") && session.credential_use === null;
  return (
    <div class="row ended-links">
      {host === null || session.return_url === null ? null : (
        <a class="button primary" href={session.return_url} rel="noreferrer">
          {texts.go_back_to(host)}
        </a>
      )}
      {can_retry ? <TryAgainButton session={session} is_primary={host === null} /> : null}
      {can_start ? (
        <a class={host === null && !can_retry ? "button primary" : "button"} href={START_PATH}>
          {session.status === "completed" ? texts.connect_another : texts.another_way}
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

export function Ended({ session, can_start, details }: EndedProps) {
  const credentials = useCredentials(session);
  const heading = useRef<HTMLHeadingElement>(null);
  // The focused element may have been removed with the machine; move the focus to the result.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  const { phase, situation, title, sentence } = session.for_person;
  const completed = session.status === "completed";
  return (
    <div class={`ended ${phase}`} data-phase={phase} data-situation={situation}>
      <div class="ended-icon" aria-hidden="true">
        <svg viewBox="0 0 24 24">{completed ? <path d="M5 12.5l4.5 4.5L19 7.5" /> : <path d="M7 7l10 10M17 7L7 17" />}</svg>
      </div>
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      <p class="lead">
        {completed && session.credential_use !== null ? commandResult(session.credential_use.exit_code) : sentence}
      </p>
      {completed && session.credential_use === null ? (
        <p class="muted">{credentials?.length === 0 ? texts.removed : session.policy_sentence}</p>
      ) : null}
      <EndedLinks session={session} can_start={can_start} />
      {details === null ? null : (
        <>
          {credentials?.map((credential) => <Files key={credential.id} files={credential.files} />)}
          {details}
        </>
      )}
    </div>
  );
}
