// The tools as cards. One click is one session, also when it was two.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, asProblem, type ProblemBody, type ProviderView } from "../api";
import { sessionPage } from "../pages";
import { lanesWords } from "../labels";
import { ProblemNote } from "./problem-note";

function others(count: number): string {
  return count === 1 ? "is another way" : `are ${count} other ways`;
}

/** Random for each click; `crypto.randomUUID` is not there on plain http. */
export function idempotencyKey(): string {
  const bytes = window.crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export function Providers({ providers }: { providers: ProviderView[] }) {
  const [starting, setStarting] = useState<string | null>(null);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  /** The key of the click under way: a second click before the answer is the same start. */
  const key = useRef<string | null>(null);

  useEffect(() => {
    const back = () => {
      key.current = null;
      setStarting(null);
    };
    window.addEventListener("pageshow", back);
    return () => window.removeEventListener("pageshow", back);
  }, []);

  const start = (provider: ProviderView) => {
    if (key.current !== null) return;
    key.current = idempotencyKey();
    setStarting(provider.id);
    setProblem(null);
    api.start(provider.id, key.current).then(
      (started) => window.location.assign(sessionPage(started.session.id, started.session.provider)),
      (thrown: unknown) => {
        key.current = null;
        setStarting(null);
        setProblem(asProblem(thrown));
      },
    );
  };

  const policies = new Set(providers.map((provider) => provider.policy_sentence));
  /** Said once where it is the same for all. */
  const one_policy = policies.size === 1 ? ([...policies][0] ?? null) : null;

  return (
    <section aria-labelledby="tools">
      <h2 id="tools" class="off-screen">
        Tools
      </h2>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="cards">
        {providers.map((provider) => (
          <li key={provider.id}>
            <button
              type="button"
              class="card"
              data-provider={provider.id}
              disabled={!provider.available}
              aria-disabled={starting !== null}
              aria-busy={starting === provider.id}
              onClick={() => start(provider)}
            >
              <span class="card-name">
                {provider.name}
                {provider.version === null ? null : <span class="version">{provider.version}</span>}
              </span>
              {provider.available ? (
                <span class="card-text">
                  Sign in with {lanesWords(provider.lanes)}.
                  {provider.methods.length > 1 ? ` There ${others(provider.methods.length - 1)} on the next page.` : ""}
                </span>
              ) : provider.policy === "forbidden" ? (
                <span class="card-text">Not available: {provider.policy_sentence}</span>
              ) : (
                <span class="card-text">
                  Not available: the machine image does not contain this tool. <code>anteroom image build</code> adds it.
                </span>
              )}
              <span class="card-foot">
                {starting === provider.id ? "Starting…" : one_policy === null ? provider.policy_sentence : null}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {one_policy === null ? null : <p class="quiet">{one_policy}</p>}
      {providers.length === 0 ? <p class="quiet">This server offers no tool.</p> : null}
    </section>
  );
}
