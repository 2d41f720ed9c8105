// A session's way as five steps, derived from its state alone.

import type { SessionView } from "./api";
import { isStatus, STAGES, stageWords, type Status } from "./labels";

export type StepState = "done" | "current" | "waiting" | "failed";

export interface Step {
  name: string;
  state: StepState;
  /** What is going on in it, when there is something to say. */
  detail: string | null;
}

const NAMES = [
  "Ask for a machine",
  "Start the machine",
  "Prepare the desktop",
  "Sign in",
  "Store the credential",
] as const;

/** The same way where a stored credential is used. */
const USE_NAMES = [...NAMES.slice(0, 3), "Run the command", "Keep what it changed"] as const;

/** The step of a machine that starts: its own, or already its desktop's. */
function ofStage(stage: string | null): number {
  return (STAGES as readonly string[]).indexOf(stage ?? "") >= STAGES.indexOf("display") ? 2 : 1;
}

/** How far an ended session had come: what it still shows of its way. */
function reached(session: SessionView): number {
  if (session.credential !== null) return 4;
  if (session.sign_in.url !== null || session.sign_in.device_code !== null) return 3;
  return session.stage === null ? 0 : ofStage(session.stage);
}

/** Which step is being worked on, or was when the session ended: 0 to 4; 5 when all are done. */
function position(session: SessionView, status: Status): number {
  switch (status) {
    case "vm_creating":
      return 0;
    case "vm_stopped":
      return 1;
    case "vm_created":
      return ofStage(session.stage);
    case "vm_started":
    case "authenticating":
      return 3;
    case "completed":
      return 5;
    case "failed":
    case "cancelled":
    case "expired":
      return reached(session);
  }
}

function detail(session: SessionView, current: number): string | null {
  if (session.status === "vm_stopped") return "Another one is on its way";
  if (current === 0 && session.queue_position !== null) {
    return session.queue_position === 1 ? "Next in the queue" : `Number ${session.queue_position} in the queue`;
  }
  return session.status === "vm_created" && session.stage !== null ? stageWords(session.stage) : null;
}

/** The steps; `null` for a status this page does not know (the raw text is shown instead). */
export function stepsOf(session: SessionView): Step[] | null {
  const status = session.status;
  if (!isStatus(status)) return null;
  const lost = status === "failed" || status === "cancelled" || status === "expired";
  const at = position(session, status);
  return (session.credential_use === null ? NAMES : USE_NAMES).map((name, index) => {
    if (index < at) return { name, state: "done", detail: null };
    if (index > at) return { name, state: "waiting", detail: null };
    return { name, state: lost ? "failed" : "current", detail: lost ? null : detail(session, at) };
  });
}
