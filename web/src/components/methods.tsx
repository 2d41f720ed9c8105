// The tool's other sign-in methods. Changing the method restarts the tool in the same machine. Link, terminal and desktop of one
// method belong to the same running tool and need no change.

import { useId, useState } from "preact/hooks";
import { api, toProblem, type MethodView, type Problem, type SessionView } from "../api";
import { texts } from "../texts";
import { ConfirmDialog } from "./confirm-dialog";
import { ProblemNote } from "./problem-note";

export function Methods({ session }: { session: SessionView }) {
  const heading = useId();
  const [to_confirm, setToConfirm] = useState<MethodView | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const others = session.methods.filter((method) => method.id !== session.method && session.for_person.other_methods.includes(method.id));
  if (others.length === 0 || session.credential_use !== null) return null;
  const changeMethod = (method: MethodView) => {
    setBusy(true);
    setProblem(null);
    api.changeMethod(session.id, method.id).then(
      () => setBusy(false),
      (error: unknown) => {
        setBusy(false);
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <section class="methods" aria-labelledby={heading}>
      <h3 id={heading}>{texts.other_ways}</h3>
      <ul class="method-list">
        {others.map((method) => (
          <li key={method.id}>
            <button type="button" class="small" aria-disabled={busy} data-method={method.id} onClick={() => (busy ? undefined : setToConfirm(method))}>
              {method.label}
            </button>
          </li>
        ))}
      </ul>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {to_confirm === null ? null : (
        <ConfirmDialog
          question={`${to_confirm.label}?`}
          detail={texts.change_way_detail(session.provider_name)}
          confirm={texts.change_way}
          cancel={texts.keep_way}
          onChoice={(choice) => {
            setToConfirm(null);
            if (choice === "confirm") changeMethod(to_confirm);
          }}
        />
      )}
    </section>
  );
}
