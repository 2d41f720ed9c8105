// An error: the sentence, the detail and the remedy.

import type { ComponentChildren } from "preact";
import type { Problem } from "../api";

export function ProblemNote({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  return (
    <div class="note bad" role="alert" data-problem={problem.code}>
      <p>
        <strong>{problem.sentence}</strong>
      </p>
      {problem.detail ? <p>{problem.detail}</p> : null}
      <p>{problem.remedy}</p>
      {children}
    </div>
  );
}
