// What a person can press when the sign-in has failed, and while a tool starts.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type PersonAction, type Problem, type SessionView } from "../api";
import { clock } from "../clock";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { Methods } from "./methods";
import { ProblemNote } from "./problem-note";
import { idempotencyKey } from "../idempotency-key";

/** The actions that repeat the sign-in with the same tool. */
type TryAgain = Extract<PersonAction, "restart_tool" | "replace_machine" | "reopen_page" | "start_session">;

function isTryAgain(action: PersonAction): action is TryAgain {
  return action === "restart_tool" || action === "replace_machine" || action === "reopen_page" || action === "start_session";
}

function tryAgain(action: TryAgain, session: SessionView, key: string): Promise<unknown> {
  switch (action) {
    case "restart_tool":
      return api.changeMethod(session.id, session.method);
    case "replace_machine":
      return api.restart(session.id);
    case "reopen_page":
      return api.openUrl(session.id, session.sign_in.browser_url ?? session.sign_in.url ?? "");
    case "start_session":
      return api
        .startSession({ provider: session.provider, method: session.method, renews: session.renews, idempotency_key: key })
        .then((started) => window.location.assign(sessionPath(started.session.id, { provider: session.provider })));
  }
}

/** The button "Try again" for the first of the actions that does so; nothing without one. */
export function TryAgainButton({ session, is_primary = true }: { session: SessionView; is_primary?: boolean }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  /** A second click is the same request. */
  const key = useRef(idempotencyKey());
  const action = session.for_person.actions.find(isTryAgain);
  if (action === undefined) return null;
  const start = () => {
    setBusy(true);
    setProblem(null);
    tryAgain(action, session, key.current).then(
      () => setBusy(false),
      (error: unknown) => {
        setBusy(false);
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <>
      <button type="button" class={is_primary ? "primary" : undefined} disabled={busy} data-action="try-again" onClick={start}>
        {session.for_person.situation === "code_expired" ? texts.new_code : texts.try_again}
      </button>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </>
  );
}

export function FailureActions({ session }: { session: SessionView }) {
  const [methods_shown, setMethodsShown] = useState(false);
  const { actions } = session.for_person;
  const has_other = actions.includes("change_method");
  const is_other_first = actions[0] === "change_method";
  return (
    <>
      <div class="row failure-actions">
        {is_other_first ? null : <TryAgainButton session={session} />}
        {has_other ? (
          <button
            type="button"
            class={is_other_first ? "primary" : undefined}
            aria-expanded={methods_shown}
            aria-controls="other-methods"
            data-action="another-way"
            onClick={() => setMethodsShown(!methods_shown)}
          >
            {texts.another_way}
          </button>
        ) : null}
        {is_other_first ? <TryAgainButton session={session} is_primary={false} /> : null}
      </div>
      {has_other ? (
        <div id="other-methods" hidden={!methods_shown}>
          <Methods session={session} />
        </div>
      ) : null}
    </>
  );
}

/** A start is slow after this many times the usual time, and never before the minimum. */
const SLOW_FACTOR = 4;
const SLOW_S_MIN = 45;

/** How long the tool has been starting, and how long it usually takes. */
export function StartingTool({ session }: { session: SessionView }) {
  const { since, usual_s } = session.for_person;
  const [now_ms, setNow] = useState(clock.now_ms());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(clock.now_ms()), 1_000);
    return () => window.clearInterval(timer);
  }, []);
  if (since === null) return null;
  const elapsed_s = Math.max(0, Math.floor((now_ms - Date.parse(since)) / 1_000));
  const is_slow = elapsed_s >= Math.max(SLOW_S_MIN, SLOW_FACTOR * (usual_s ?? 0));
  return (
    <>
      <p class="starting-tool muted" role="timer" aria-live="off">
        <span class="spinner" aria-hidden="true" /> {texts.starting_for(elapsed_s, usual_s)}
      </p>
      {is_slow ? (
        <>
          <p>{texts.starts_slowly}</p>
          <TryAgainButton session={session} is_primary={false} />
        </>
      ) : null}
    </>
  );
}
