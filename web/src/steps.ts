// The five steps of a session, computed from its state.

import type { SessionView, Status } from "./api";
import { isStatus, STAGES } from "./labels";

export type StepState = "done" | "current" | "waiting" | "failed";

export interface Step {
  name: string;
  state: StepState;
  /** What happens in the step now. */
  detail: string | null;
}

const SIGN_IN_STEPS = [
  "Get a computer",
  "Start it",
  "Start the tool",
  "Sign in",
  "Save your sign-in",
] as const;

/** The steps of a session that uses a stored credential. */
const CREDENTIAL_USE_STEPS = [...SIGN_IN_STEPS.slice(0, 3), "Run the command", "Save the changed sign-in"] as const;

/** The step of a boot stage: starting the machine, or preparing the desktop. */
function stepOfStage(stage: string | null): number {
  return (STAGES as readonly string[]).indexOf(stage ?? "") >= STAGES.indexOf("display") ? 2 : 1;
}

/** Whether the tool is signed in and the sign-in is being saved, or was rejected. */
function isSaving(session: SessionView): boolean {
  return ["saving", "saving_delayed", "not_saved"].includes(session.for_person.situation);
}

/** The step at which an ended session stopped, as far as its state shows. */
function lastStep(session: SessionView): number {
  if (session.credential !== null || isSaving(session)) return 4;
  if (session.sign_in.url !== null || session.sign_in.device_code !== null) return 3;
  return session.stage === null ? 0 : stepOfStage(session.stage);
}

/** The index of the current step, or of the last one of an ended session; 5 if all are done. */
function currentStep(session: SessionView, status: Status): number {
  switch (status) {
    case "vm_creating":
      return 0;
    case "vm_stopped":
      return 1;
    case "vm_created":
      return stepOfStage(session.stage);
    case "vm_started":
    case "authenticating":
      if (session.for_person.situation === "tool_starting") return 2;
      return isSaving(session) ? 4 : 3;
    case "completed":
      return 5;
    case "failed":
    case "cancelled":
    case "expired":
      return lastStep(session);
  }
}

function stepDetail(session: SessionView, current: number): string | null {
  if (current === 0 && session.queue_position !== null) {
    return session.queue_position === 1 ? "You are next" : `Number ${session.queue_position} in the queue`;
  }
  return null;
}

/** The steps; `null` for an unknown status (the page shows its text instead). */
export function stepsOf(session: SessionView): Step[] | null {
  const status: string = session.status;
  if (!isStatus(status)) return null;
  const failed = status === "failed" || status === "cancelled" || status === "expired";
  const current = currentStep(session, status);
  return (session.credential_use === null ? SIGN_IN_STEPS : CREDENTIAL_USE_STEPS).map((name, index) => {
    if (index < current) return { name, state: "done", detail: null };
    if (index > current) return { name, state: "waiting", detail: null };
    return { name, state: failed ? "failed" : "current", detail: failed ? null : stepDetail(session, current) };
  });
}
