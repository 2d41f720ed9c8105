// The session's deadlines, and the buttons that stop the session or replace its machine.

import { useState } from "preact/hooks";
import { api, toProblem, type HelperView, type Problem, type SessionView } from "../api";
import { ConfirmDialog, type ConfirmDialogTexts } from "./confirm-dialog";
import { Countdown } from "./countdown";
import { Helpers } from "./helpers";
import { InviteHelper } from "./invite-helper";
import { ProblemNote } from "./problem-note";

type Action = "cancel" | "restart";

const DIALOGS: Record<Action, ConfirmDialogTexts> = {
  cancel: {
    question: "Stop this session?",
    detail: "The machine is deleted and no credential is kept. An unfinished sign-in is lost.",
    confirm: "Stop",
    cancel: "Keep going",
  },
  restart: {
    question: "Start over?",
    detail: "The machine is deleted and a new one is started. An unfinished sign-in is lost.",
    confirm: "Start over",
    cancel: "Keep going",
  },
};

/** An external machine continues to run after the session. */
const CANCEL_EXTERNAL: ConfirmDialogTexts = {
  ...DIALOGS.cancel,
  detail: "The external machine continues to run. No credential is kept, also if you finish the sign-in there.",
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
      <p class="deadlines">
        <Countdown until={session.idle_deadline_at} prefix="Closes if unused in" />
        <Countdown until={session.deadline_at} prefix="Closes at the latest in" />
      </p>
      <div class="row">
        <button type="button" class="small" disabled={busy} data-action="cancel" onClick={() => setToConfirm("cancel")}>
          Stop
        </button>
        {restarts_left > 0 ? (
          <button type="button" class="small" disabled={busy} data-action="restart" onClick={() => setToConfirm("restart")}>
            Start over
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
