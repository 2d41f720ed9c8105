// An ended session: its result, or why it failed.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type CredentialMeta, type SessionView } from "../api";
import { returnAddress } from "../embedding";
import { START_PATH } from "../pages";
import { texts } from "../texts";
import { OtherMethods } from "./other-methods";
import { TryAgainButton } from "./failure-actions";
import { Files } from "./files";
import { ReportId } from "./report-id";
import { ReturnLink } from "./return-link";

interface EndedLinksProps {
  session: SessionView;
  /** Whether the user may start another session here (a viewer may not). */
  can_start: boolean;
  /** Whether the page showed the session before it ended. */
  was_live: boolean;
}

interface EndedProps extends EndedLinksProps {
  /** Only for operators. */
  details: ComponentChildren;
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

function EndedLinks({ session, can_start, was_live }: EndedLinksProps) {
  const can_return = returnAddress(session) !== null;
  const is_retryable = session.status !== "completed" && session.credential_use === null;
  const can_retry = can_start && is_retryable && session.for_person.actions.includes("start_session");
  return (
    <div class="row ended-links">
      <ReturnLink session={session} was_live={was_live} />
      {can_retry ? <TryAgainButton session={session} is_primary={!can_return} /> : null}
      {can_retry ? <OtherMethods session={session} /> : null}
      {can_start && session.status === "completed" ? (
        <a class={can_return ? "button" : "button primary"} href={`${START_PATH}#add`}>
          {texts.connect_another}
        </a>
      ) : null}
      {can_start ? (
        <a class="button" href={START_PATH}>
          {texts.connections.title}
        </a>
      ) : null}
    </div>
  );
}

/** The result of a command that used a stored credential. */
function commandResult(exit_code: number | null): string {
  if (exit_code === null) return texts.command.unknown;
  if (exit_code === 0) return texts.command.succeeded;
  return texts.command.failed(exit_code);
}

export function Ended({ session, can_start, was_live, details }: EndedProps) {
  const credentials = useCredentials(session);
  const heading = useRef<HTMLHeadingElement>(null);
  // The focused element may have been removed with the machine; move the focus to the result.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  const { phase, situation, title, sentence, why } = session.for_person;
  const completed = session.status === "completed";
  const account = session.credential?.account ?? null;
  return (
    <div class={`ended ${phase}`} data-phase={phase} data-situation={situation}>
      <div class="ended-icon" aria-hidden="true">
        <svg viewBox="0 0 24 24">{completed ? <path d="M5 12.5l4.5 4.5L19 7.5" /> : <path d="M7 7l10 10M17 7L7 17" />}</svg>
      </div>
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      <p class="lead">
        {completed && session.credential_use !== null
          ? commandResult(session.credential_use.exit_code)
          : completed && account !== null
            ? texts.connected_as(session.provider_name, account)
            : sentence}
      </p>
      {why === null ? null : <p data-verdict={session.for_person.values.verdict}>{why}</p>}
      {completed && session.credential_use === null ? (
        <p class="muted">{credentials?.length === 0 ? texts.removed : session.policy_sentence}</p>
      ) : null}
      <EndedLinks session={session} can_start={can_start} was_live={was_live} />
      {phase === "failed" || why !== null ? <ReportId session={session} /> : null}
      {details === null ? null : (
        <>
          {credentials?.map((credential) => <Files key={credential.id} files={credential.files} />)}
          {details}
        </>
      )}
    </div>
  );
}
