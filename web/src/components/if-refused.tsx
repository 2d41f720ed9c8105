// While the person signs in: what to do if the page refuses, and the way out with one click. Nothing has been entered here that a change
// could lose, so it is not asked for again.

import { useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView } from "../api";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

interface IfRefusedProps {
  session: SessionView;
  is_lost: boolean;
  /** Opens the tab of the person's own browser; `null`: it is open, or the method has none. */
  openOwn: (() => void) | null;
}

export function IfRefused({ session, is_lost, openOwn }: IfRefusedProps) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const hint = session.for_person.if_refused;
  if (hint === null || (hint.in_own_browser && openOwn === null)) return null;
  const method = session.methods.find(({ id }) => id === hint.method);
  const change = (id: string) => {
    setBusy(true);
    setProblem(null);
    api.changeMethod(session.id, id).then(
      () => setBusy(false),
      (error: unknown) => {
        setBusy(false);
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <div class="if-refused" data-notice="if-refused">
      <p class="hint">{hint.sentence}</p>
      {hint.in_own_browser && openOwn !== null ? (
        <button type="button" class="small" data-action="use-own-browser" onClick={openOwn}>
          {texts.use_own_browser}
        </button>
      ) : null}
      {method === undefined ? null : (
        <button type="button" class="small" disabled={busy || is_lost} data-action="use-method" data-other-method={method.id} onClick={() => change(method.id)}>
          {method.label}
        </button>
      )}
      {problem === null ? null : <ProblemNote problem={problem} />}
    </div>
  );
}
