// The steps of a session in one line, with the times that they took.

import type { SessionView, TimelineEntry } from "../api";
import { startTimes, stepsOf } from "../steps";
import { texts } from "../texts";

export function ProgressLine({ session, timeline }: { session: SessionView; timeline: readonly TimelineEntry[] }) {
  const steps = stepsOf(session, startTimes(timeline));
  if (steps === null) return <p>{session.status}</p>;
  return (
    <ol class="steps" aria-label={texts.steps_label}>
      {steps.map((step, index) => (
        <li key={index} class={step.state} aria-current={step.state === "current" ? "step" : undefined}>
          {step.name}
          <span class="step-mark" aria-hidden="true">
            {step.state === "done" ? " ✓" : step.state === "failed" ? " ✕" : ""}
          </span>
          <span class="visually-hidden">: {texts.step_states[step.state]}</span>
        </li>
      ))}
    </ol>
  );
}
