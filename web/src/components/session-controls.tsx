// The session's deadlines, and the buttons that stop the session or replace its machine.

import { useState } from "preact/hooks";
import { api, toProblem, type HelperView, type Problem, type SessionView } from "../api";
import { ConfirmDialog, type ConfirmDialogTexts } from "./confirm-dialog";
import { ClosingSoon } from "./closing-soon";
import { Helpers } from "./helpers";
import { InviteHelper } from "./invite-helper";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

type Action = "cancel" | "restart";

function dialogTexts(action: Action, session: SessionView): ConfirmDialogTexts {
  const cancel = texts.keep_going;
  if (action === "restart") {
    return { question: texts.start_over_question, detail: texts.start_over_detail, confirm: texts.start_over, cancel };
  }
  // An external machine continues to run after the session.
  const detail = session.machine === null ? texts.stop_detail : texts.stop_external_detail;
  return { question: texts.stop_question, detail, confirm: texts.stop, cancel };
}

interface SessionControlsProps {
  session: SessionView;
  helpers: readonly HelperView[] | null;
}

export function SessionControls({ session, helpers }: SessionControlsProps) {
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
  const restarts_left = session.generations_max - session.generation;
  return (
    <section class="session-controls" aria-label="This session">
      <ClosingSoon session={session} can_keep_open />
      <div class="row">
        <button type="button" class="small" disabled={busy} data-action="cancel" onClick={() => setToConfirm("cancel")}>
          {texts.stop}
        </button>
        {restarts_left > 0 ? (
          <button type="button" class="small" disabled={busy} data-action="restart" onClick={() => setToConfirm("restart")}>
            {texts.start_over}
          </button>
        ) : null}
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <Helpers id={session.id} helpers={helpers} />
      <InviteHelper id={session.id} />
      {to_confirm === null ? null : (
        <ConfirmDialog
          {...dialogTexts(to_confirm, session)}
          onChoice={(choice) => {
            setToConfirm(null);
            if (choice === "confirm") perform(to_confirm);
          }}
        />
      )}
    </section>
  );
}
