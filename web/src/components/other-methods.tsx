// On an ended page: the tool's other sign-in methods. Each starts a session with that method; the ended one stays as it is.

import { useId, useState } from "preact/hooks";
import type { SessionView } from "../api";
import { texts } from "../texts";
import { useSignInStart } from "./add-tool";
import { ProblemNote } from "./problem-note";

export function OtherMethods({ session }: { session: SessionView }) {
  const list = useId();
  const [is_open, setOpen] = useState(false);
  const { starting, problem, start } = useSignInStart();
  const others = session.methods.filter((method) => method.id !== session.method);
  if (others.length === 0) return null;
  return (
    <>
      <button type="button" aria-expanded={is_open} aria-controls={list} data-action="another-way" onClick={() => setOpen(!is_open)}>
        {texts.another_way}
      </button>
      <div id={list} class="other-methods" hidden={!is_open}>
        <ul class="method-list" aria-label={texts.other_ways}>
          {others.map((method) => (
            <li key={method.id}>
              <button
                type="button"
                class="small"
                aria-disabled={starting !== null}
                data-method={method.id}
                onClick={() => start(session.provider, { method: method.id, renews: session.renews })}
              >
                {method.label}
              </button>
            </li>
          ))}
        </ul>
        {problem === null ? null : <ProblemNote problem={problem} />}
      </div>
    </>
  );
}
