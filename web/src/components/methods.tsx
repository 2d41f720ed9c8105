// The other commands by which the same tool can be signed in. A change starts the tool anew in the same machine; changing between
// link, terminal and desktop needs none of this: that is always the same running tool.

import { useState } from "preact/hooks";
import { api, asProblem, type MethodView, type ProblemBody, type SessionView } from "../api";
import { Ask } from "./confirm-dialog";
import { ProblemNote } from "./problem-note";

export function Methods({ session }: { session: SessionView }) {
  const [asked, ask] = useState<MethodView | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const others = session.methods.filter((method) => method.id !== session.method);
  if (others.length === 0 || session.credential_use !== null) return null;
  const answered = (method: MethodView, yes: boolean) => {
    ask(null);
    if (!yes) return;
    setBusy(true);
    setProblem(null);
    api.method(session.id, method.id).then(
      () => setBusy(false),
      (thrown: unknown) => {
        setBusy(false);
        setProblem(asProblem(thrown));
      },
    );
  };
  return (
    <section class="methods" aria-labelledby="methods">
      <h3 id="methods">Other ways to sign in</h3>
      <ul class="choices">
        {others.map((method) => (
          <li key={method.id}>
            <button type="button" class="small" disabled={busy} data-method={method.id} onClick={() => ask(method)}>
              {method.label}
            </button>
          </li>
        ))}
      </ul>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {asked === null ? null : (
        <Ask
          question={`${asked.label}?`}
          detail={`${session.provider_name} is started anew in the same machine. What was begun the other way is given up.`}
          yes="Change"
          no="Go on as before"
          onAnswer={(yes) => answered(asked, yes)}
        />
      )}
    </section>
  );
}
