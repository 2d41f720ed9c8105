// In the header: who is signed in, the operators' pages for those who may see them, and the way out.

import { useState } from "preact/hooks";
import { toProblem, type CurrentCaller, type Problem } from "../api";
import { signOutHere } from "../oidc";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

/** `caller`: `null` while it is not known; the bar keeps its place. */
export function AccountBar({ caller }: { caller: CurrentCaller | null }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const signOut = () => {
    setProblem(null);
    signOutHere().then(
      () => window.location.reload(),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  if (caller === null) return <div class="account-bar" />;
  return (
    <div class="account-bar">
      {problem === null ? null : <ProblemNote problem={problem} />}
      {caller.role === "operator" ? <a href="/admin">{texts.connections.operators_page}</a> : null}
      <span class="account-name" title={texts.connections.signed_in_as(caller.name)}>
        <span class="visually-hidden">{texts.connections.signed_in_as("")}</span>
        {caller.name}
      </span>
      <button type="button" class="small" data-action="log-out" onClick={signOut}>
        {texts.connections.sign_out}
      </button>
    </div>
  );
}
