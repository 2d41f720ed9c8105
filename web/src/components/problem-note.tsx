// A refusal: what is so, what is particular, what to do.

import type { ComponentChildren } from "preact";
import type { ProblemBody } from "../api";

export function ProblemNote({ problem, children }: { problem: ProblemBody; children?: ComponentChildren }) {
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
