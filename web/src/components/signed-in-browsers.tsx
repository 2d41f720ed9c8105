// The browsers in which the person is signed in, folded; their list is loaded when it is opened.

import type { ComponentType } from "preact";
import { useState } from "preact/hooks";
import { toProblem, type Problem } from "../api";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

export function SignedInBrowsers() {
  const [Browsers, setBrowsers] = useState<ComponentType | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const onToggle = () => {
    if (Browsers !== null) return;
    import("./browsers").then(
      (loaded) => setBrowsers(() => loaded.Browsers),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  return (
    <details class="signed-in-browsers" onToggle={onToggle}>
      <summary>{texts.connections.browsers}</summary>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {Browsers === null ? null : <Browsers />}
    </details>
  );
}
