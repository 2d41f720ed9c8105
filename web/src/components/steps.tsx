// The session's steps.

import type { SessionView } from "../api";
import { stepsOf, type StepState } from "../steps";

/** For screen readers. */
const STATE_LABELS: Record<StepState, string> = {
  done: "done",
  current: "now",
  waiting: "not yet",
  failed: "ended here",
};

export function Steps({ session }: { session: SessionView }) {
  const steps = stepsOf(session);
  if (steps === null) return <p>{session.status}</p>;
  return (
    <ol class="steps" aria-label="Steps">
      {steps.map((step) => (
        <li key={step.name} class={step.state} aria-current={step.state === "current" ? "step" : undefined}>
          <span class="dot" aria-hidden="true" />
          <span>
            {step.name}
            <span class="visually-hidden">: {STATE_LABELS[step.state]}</span>
            {step.detail === null ? null : <small>{step.detail}</small>}
          </span>
        </li>
      ))}
    </ol>
  );
}
