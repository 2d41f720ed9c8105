// Below the tabs: how far the session is, the buttons that stop it or replace its machine, its deadlines, other methods, and helpers.

import { useState } from "preact/hooks";
import { api, toProblem, type HelperView, type Problem, type SessionView, type TimelineEntry } from "../api";
import { texts } from "../texts";
import { ClosingSoon } from "./closing-soon";
import { ConfirmDialog, type ConfirmDialogTexts } from "./confirm-dialog";
import { Helpers } from "./helpers";
import { InviteHelper } from "./invite-helper";
import { Methods } from "./methods";
import { ProblemNote } from "./problem-note";
import { ProgressLine } from "./progress-line";
import { ReportId } from "./report-id";

type Action = "cancel" | "restart";

function dialogTexts(action: Action, session: SessionView): ConfirmDialogTexts {
  if (action === "restart") {
    return { question: texts.start_over_question, detail: texts.start_over_detail, confirm: texts.start_over, cancel: texts.keep_going };
  }
  // An external machine continues to run after the session.
  const detail = session.machine === null ? texts.stop_detail : texts.stop_external_detail;
  return { question: texts.stop_question, detail, confirm: texts.stop, cancel: texts.keep_going };
}

function Controls({ session }: { session: SessionView }) {
  const [to_confirm, setToConfirm] = useState<Action | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const perform = (action: Action) => {
    setBusy(true);
    setProblem(null);
    const request = action === "cancel" ? api.cancel(session.id) : api.restart(session.id);
    request.then(
      () => setBusy(false),
      (error: unknown) => {
        setBusy(false);
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <>
      <div class="row session-controls">
        {session.generations_max > session.generation ? (
          <button type="button" class="small" disabled={busy} data-action="restart" onClick={() => setToConfirm("restart")}>
            {texts.start_over}
          </button>
        ) : null}
        <button type="button" class="small" disabled={busy} data-action="cancel" onClick={() => setToConfirm("cancel")}>
          {texts.stop}
        </button>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {to_confirm === null ? null : (
        <ConfirmDialog
          {...dialogTexts(to_confirm, session)}
          onChoice={(choice) => {
            setToConfirm(null);
            if (choice === "confirm") perform(to_confirm);
          }}
        />
      )}
    </>
  );
}

interface SessionFooterProps {
  session: SessionView;
  timeline: readonly TimelineEntry[];
  helpers: readonly HelperView[] | null;
  view_only: boolean;
}

export function SessionFooter({ session, timeline, helpers, view_only }: SessionFooterProps) {
  const { phase } = session.for_person;
  const is_your_turn = phase === "your_turn";
  return (
    <section class="session-footer" aria-label={texts.this_session}>
      <div class="progress">
        <ProgressLine session={session} timeline={timeline} />
        {view_only ? null : <Controls session={session} />}
      </div>
      {view_only ? null : (
        <>
          <ClosingSoon session={session} can_keep_open />
          {session.machine === null ? (
            <div class={is_your_turn ? undefined : "kept-place"}>
              <Methods session={session} />
            </div>
          ) : null}
          {session.credential_use === null ? (
            <p class="muted policy">
              {session.policy_sentence}
              {session.return_host === null ? null : ` ${texts.you_return_to(session.return_host)}`}
            </p>
          ) : null}
          <Helpers id={session.id} helpers={helpers} />
          <InviteHelper id={session.id} />
          {phase === "needs_attention" || phase === "failed" ? <ReportId session={session} /> : null}
        </>
      )}
    </section>
  );
}
