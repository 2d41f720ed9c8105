// An error: for a person the sentence for people, for an operator what happened, the detail and the remedy.

import type { ComponentChildren } from "preact";
import { useContext } from "preact/hooks";
import type { Problem } from "../api";
import { AudienceContext } from "../audience";

export function ProblemNote({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  const is_operator = useContext(AudienceContext) === "operator";
  return (
    <div class="note bad" role="alert" data-problem={problem.code}>
      <p>
        <strong>{is_operator ? problem.sentence : problem.for_person}</strong>
      </p>
      {is_operator ? (
        <>
          {problem.detail ? <p>{problem.detail}</p> : null}
          <p>{problem.remedy}</p>
        </>
      ) : null}
      {children}
    </div>
  );
}
