// The sign-ins that are open: what each waits for, and how long it stays open when that is not long.

import { useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView } from "../api";
import { remaining_ms } from "../clock";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { useNow } from "../times";
import { ConfirmDialog } from "./confirm-dialog";
import { Countdown } from "./countdown";
import { ProblemNote } from "./problem-note";

const SHOWN_MAX = 12;
/** From when on the remaining time is shown. */
const CLOSES_SOON_MS = 5 * 60_000;

interface OpenSignInsProps {
  sessions: SessionView[];
  is_operator: boolean;
  /** After a sign-in was stopped. */
  onChange: () => void;
}

/** The deadline of a session if it is near. */
function nearDeadline(session: SessionView, now_ms: number): string | null {
  const deadlines = [session.idle_deadline_at, session.deadline_at].filter((at) => at !== null).sort();
  const first = deadlines[0] ?? null;
  const left_ms = remaining_ms(first, now_ms);
  return left_ms !== null && left_ms <= CLOSES_SOON_MS ? first : null;
}

/** Whether the sign-in has failed, so that the person may want to stop it; what is being saved is not lost. */
function hasFailed({ for_person: { phase, situation } }: SessionView): boolean {
  return (phase === "failed" || phase === "needs_attention") && situation !== "saving_delayed";
}

/** Stops a sign-in after a confirmation. */
function Stop({ session, onChange }: { session: SessionView; onChange: () => void }) {
  const [is_asked, setAsked] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  return (
    <>
      <button type="button" class="small" data-action="stop" onClick={() => setAsked(true)}>
        {texts.stop}
        <span class="visually-hidden"> {session.provider_name}</span>
      </button>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {is_asked ? (
        <ConfirmDialog
          question={texts.stop_question}
          detail={session.machine === null ? texts.stop_detail : texts.stop_external_detail}
          confirm={texts.stop}
          cancel={texts.keep_going}
          onChoice={(choice) => {
            setAsked(false);
            if (choice === "confirm") api.cancel(session.id).then(onChange, (error: unknown) => setProblem(toProblem(error)));
          }}
        />
      ) : null}
    </>
  );
}

export function OpenSignIns({ sessions, is_operator, onChange }: OpenSignInsProps) {
  const now_ms = useNow(5_000);
  if (sessions.length === 0) return null;
  return (
    <section aria-labelledby="continue">
      <h2 id="continue">{texts.connections.continue}</h2>
      <ul class="connections">
        {sessions.slice(0, SHOWN_MAX).map((session) => {
          const { id, provider, provider_name, user_id, for_person } = session;
          return (
            <li key={id} data-session={id} data-status={session.status}>
              <span class="connection-name">
                {provider_name}
                {is_operator && user_id !== null ? <span class="account">{texts.connections.for_user(user_id)}</span> : null}
              </span>
              <span class="connection-state">
                <span class={`lamp ${for_person.phase}`} aria-hidden="true" />
                {for_person.phase === "your_turn" ? texts.connections.waits_for_you : for_person.title}{" "}
                <Countdown until={nearDeadline(session, now_ms)} prefix={`· ${texts.closes_in}`} />
              </span>
              <span class="connection-actions">
                {is_operator ? (
                  <a href={sessionPath(id, { provider, view_only: true })} data-action="watch">
                    {texts.connections.watch}
                    <span class="visually-hidden"> {provider_name}</span>
                  </a>
                ) : null}
                {hasFailed(session) ? <Stop session={session} onChange={onChange} /> : null}
                <a class="button small primary" href={sessionPath(id, { provider })} data-action="continue">
                  {texts.connections.continue}
                  <span class="visually-hidden"> {provider_name}</span>
                </a>
              </span>
            </li>
          );
        })}
      </ul>
      {sessions.length > SHOWN_MAX ? <p class="muted">{texts.connections.newest_shown(SHOWN_MAX)}</p> : null}
    </section>
  );
}
