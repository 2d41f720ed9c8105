// The four steps of a session, computed from its state and its timeline.

import type { SessionView, Status, TimelineEntry } from "./api";
import { isStatus } from "./labels";
import { texts } from "./texts";

export type StepState = "done" | "current" | "waiting" | "failed";

export interface Step {
  name: string;
  state: StepState;
}

/** How long the session's present machine and its tool took to start, milliseconds; `null`: not yet, or not known. */
export interface StartTimes {
  computer_ms: number | null;
  tool_ms: number | null;
}

const TOOL_SHOWS = ["sign_in_url", "device_code", "prompt_opened", "browser_opened"];

/** The time from the last entry of kind `from` to the next one of the kinds `to`. */
function elapsed_ms(timeline: readonly TimelineEntry[], from: string, to: readonly string[]): number | null {
  const start = timeline.findLastIndex(({ kind }) => kind === from);
  const end = start === -1 ? undefined : timeline.slice(start).find(({ kind }) => to.includes(kind));
  if (end === undefined) return null;
  const difference = Date.parse(end.at) - Date.parse(timeline[start]?.at ?? "");
  return Number.isNaN(difference) ? null : Math.max(0, difference);
}

export function startTimes(timeline: readonly TimelineEntry[]): StartTimes {
  return {
    computer_ms: elapsed_ms(timeline, "machine_requested", ["machine_ready"]),
    tool_ms: elapsed_ms(timeline, "cli_started", TOOL_SHOWS),
  };
}

const COMPUTER = 0;
const TOOL = 1;
const PERSON = 2;
const SAVING = 3;
const ALL_DONE = 4;

/** Whether the tool is signed in and the sign-in is being saved, or was rejected. */
function isSaving(session: SessionView): boolean {
  return ["saving", "saving_delayed", "not_saved"].includes(session.for_person.situation);
}

/** The step at which an ended session stopped, as far as its state shows. */
function lastStep(session: SessionView): number {
  if (session.credential !== null || isSaving(session)) return SAVING;
  return session.sign_in.url !== null || session.sign_in.device_code !== null ? PERSON : COMPUTER;
}

/** The index of the current step, or of the last one of an ended session. */
function currentStep(session: SessionView, status: Status): number {
  switch (status) {
    case "vm_creating":
    case "vm_created":
    case "vm_stopped":
      return COMPUTER;
    case "vm_started":
    case "authenticating":
      if (["tool_starting", "page_opening"].includes(session.for_person.situation)) return TOOL;
      return isSaving(session) ? SAVING : PERSON;
    case "completed":
      return ALL_DONE;
    case "failed":
    case "cancelled":
    case "expired":
      return lastStep(session);
  }
}

/** The steps; `null` for an unknown status (the page shows its text instead). */
export function stepsOf(session: SessionView, times: StartTimes): Step[] | null {
  const status: string = session.status;
  if (!isStatus(status)) return null;
  const has_failed = ["failed", "cancelled", "expired"].includes(status) || ["failed", "needs_attention"].includes(session.for_person.phase);
  const current = currentStep(session, status);
  const uses_credential = session.credential_use !== null;
  const names = [
    current > COMPUTER ? texts.computer_ready(times.computer_ms) : texts.computer_starting,
    current > TOOL ? texts.tool_started(session.provider_name, times.tool_ms) : texts.tool_starting(session.provider_name),
    uses_credential ? texts.use_running : session.for_person.situation === "checking" ? session.for_person.title : current > PERSON ? texts.signed_in_step : has_failed ? texts.sign_in_step : texts.waiting_for_you_step,
    current > SAVING ? texts.saved_step : texts.saving_step,
  ];
  return names.map((name, index) => {
    if (index !== current) return { name, state: index < current ? "done" : "waiting" };
    return { name, state: has_failed ? "failed" : "current" };
  });
}
