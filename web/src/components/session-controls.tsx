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

const DIALOGS: Record<Action, ConfirmDialogTexts> = {
  cancel: {
    question: texts.stop_question,
    detail: texts.stop_detail,
    confirm: texts.stop,
    cancel: texts.keep_going,
  },
  restart: {
    question: texts.start_over_question,
    detail: texts.start_over_detail,
    confirm: texts.start_over,
    cancel: texts.keep_going,
  },
};

/** An external machine continues to run after the session. */
const CANCEL_EXTERNAL: ConfirmDialogTexts = {
  ...DIALOGS.cancel,
  detail: texts.stop_external_detail,
};

function dialogTexts(action: Action, session: SessionView): ConfirmDialogTexts {
  return action === "cancel" && session.machine !== null ? CANCEL_EXTERNAL : DIALOGS[action];
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
