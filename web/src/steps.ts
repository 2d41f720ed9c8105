// A session's way as five steps, derived from its state alone.

import type { SessionView } from "./api";
import { isStatus, stageWords, type Status } from "./words";

export type StepState = "done" | "current" | "waiting" | "failed";

export interface Step {
  name: string;
  state: StepState;
  /** What is going on in it, when there is something to say. */
  detail: string | null;
}

const NAMES = ["Machine asked for", "Machine started", "Desktop ready", "Signed in", "Credential stored"] as const;

/** Which step is being worked on (0 to 4; 5: all done) while the session lives. */
const CURRENT: Record<Exclude<Status, "failed" | "cancelled" | "expired">, number> = {
  vm_creating: 0,
  vm_stopped: 1,
  vm_created: 1,
  vm_started: 3,
  authenticating: 3,
  completed: 5,
};

/** How far an ended session had come: what it still shows of its way. */
function reached(session: SessionView): number {
  if (session.credential !== null) return 4;
  if (session.sign_in.url !== null || session.sign_in.device_code !== null) return 3;
  if (session.stage === "display" || session.stage === "window_manager") return 2;
  return session.stage === null ? 0 : 1;
}

function detail(session: SessionView, current: number): string | null {
  if (session.status === "vm_stopped") return session.reason?.sentence ?? "Another machine is being started";
  if (current === 0 && session.queue_position !== null) {
    return session.queue_position === 1 ? "Next in the queue" : `Number ${session.queue_position} in the queue`;
  }
  if (current === 1 && session.stage !== null) {
    return stageWords(session.stage);
  }
  return null;
}

/** The steps; `null` for a status this page does not know (the raw text is shown instead). */
export function stepsOf(session: SessionView): Step[] | null {
  const status = session.status;
  if (!isStatus(status)) return null;
  const lost = status === "failed" || status === "cancelled" || status === "expired";
  const at = lost ? reached(session) : CURRENT[status];
  return NAMES.map((name, index) => {
    if (index < at) return { name, state: "done", detail: null };
    if (index > at) return { name, state: "waiting", detail: null };
    return { name, state: lost ? "failed" : "current", detail: lost ? null : detail(session, at) };
  });
}
