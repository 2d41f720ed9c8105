// The offered tools as cards. A click starts one session, a double click too.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type Problem, type ProviderView } from "../api";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

/** Where the user signs in, by the preferred lane. */
function signInPlace(lanes: readonly string[]): string {
  switch (lanes[0]) {
    case "link":
    case "device_code":
      return texts.sign_in_own_browser;
    case "desktop":
      return texts.sign_in_remote_browser;
    default:
      return texts.sign_in_with_key;
  }
}

/** A new random key. `crypto.randomUUID` exists only in secure contexts, not on plain http. */
export function idempotencyKey(): string {
  const bytes = window.crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export function Providers({ providers }: { providers: ProviderView[] }) {
  const [starting, setStarting] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  /** The key of the request in progress; it blocks further clicks. */
  const pending_key = useRef<string | null>(null);

  useEffect(() => {
    // The browser may restore this page as it was left.
    const onPageShow = () => {
      pending_key.current = null;
      setStarting(null);
    };
    window.addEventListener("pageshow", onPageShow);
    return () => window.removeEventListener("pageshow", onPageShow);
  }, []);

  const start = (provider: ProviderView) => {
    if (pending_key.current !== null) return;
    pending_key.current = idempotencyKey();
    setStarting(provider.id);
    setProblem(null);
    api.startSession({ provider: provider.id, idempotency_key: pending_key.current }).then(
      ({ session }) => window.location.assign(sessionPath(session.id, { provider: session.provider })),
      (error: unknown) => {
        pending_key.current = null;
        setStarting(null);
        setProblem(toProblem(error));
      },
    );
  };

  const policies = new Set(providers.map((provider) => provider.policy_sentence));
  /** If all tools have the same policy, it is shown once. */
  const common_policy = policies.size === 1 ? ([...policies][0] ?? null) : null;

  return (
    <section aria-labelledby="tools">
      <h2 id="tools" class="visually-hidden">
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
                <span>{signInPlace(provider.lanes)}</span>
              ) : provider.policy === "forbidden" ? (
                <span>Not available: {provider.policy_sentence}</span>
              ) : (
                <span>
                  Not installed: the machine image does not contain this tool. <code>docs/providers.md</code> describes how to add it.
                </span>
              )}
              <span class="card-footer">
                {starting === provider.id ? "Starting…" : common_policy === null ? provider.policy_sentence : null}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {common_policy === null ? null : <p class="muted">{common_policy}</p>}
      {providers.length === 0 ? <p class="muted">This server offers no tools.</p> : null}
    </section>
  );
}
