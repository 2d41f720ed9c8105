// The tools that can be connected as cards, the one that needs no account first. A click starts one session, a double click too.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type Problem, type ProviderView } from "../api";
import { idempotencyKey } from "../idempotency-key";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

/** The start of a sign-in: one at a time. */
export interface SignInStart {
  /** The tool that is being started. */
  starting: string | null;
  problem: Problem | null;
  /** Without a method: the tool's preferred one. */
  start: (provider: string, options?: { method?: string; renews?: string | null }) => void;
}

export function useSignInStart(): SignInStart {
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

  const start: SignInStart["start"] = (provider, options = {}) => {
    if (pending_key.current !== null) return;
    pending_key.current = idempotencyKey();
    setStarting(provider);
    setProblem(null);
    api.startSession({ provider, ...options, idempotency_key: pending_key.current }).then(
      ({ session }) => window.location.assign(sessionPath(session.id, { provider: session.provider })),
      (error: unknown) => {
        pending_key.current = null;
        setStarting(null);
        setProblem(toProblem(error));
      },
    );
  };
  return { starting, problem, start };
}

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

/** What happens with the sign-in, if it is not kept. */
function policySentence({ policy }: ProviderView): string | null {
  if (policy === "deliver_once") return texts.connections.handed_out_once;
  return policy === "keep_in_machine" ? texts.connections.not_kept : null;
}

interface AddToolProps {
  providers: ProviderView[];
  has_connections: boolean;
  is_operator: boolean;
  sign_in: SignInStart;
}

export function AddTool({ providers, has_connections, is_operator, sign_in }: AddToolProps) {
  const { starting, problem, start } = sign_in;
  const available = providers.filter((provider) => provider.available);
  const tools = [...available.filter((tool) => tool.without_account), ...available.filter((tool) => !tool.without_account)];
  const missing = providers.filter((provider) => !provider.available);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // The browser looked for it before the page had its content.
    if (window.location.hash === "#add") heading.current?.scrollIntoView();
  }, []);
  return (
    <section aria-labelledby="add">
      <h2 id="add" ref={heading}>{has_connections ? texts.connect_another : texts.connect_a_tool}</h2>
      <p class="muted">{texts.connections.lead}</p>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="cards">
        {tools.map((tool) => (
          <li key={tool.id}>
            <button
              type="button"
              class="card"
              data-provider={tool.id}
              aria-disabled={starting !== null}
              aria-busy={starting === tool.id}
              onClick={() => start(tool.id)}
            >
              <span class="card-name">
                {tool.name}
                {is_operator && tool.version !== null ? <span class="version">{tool.version}</span> : null}
              </span>
              <span class="card-text">
                {starting === tool.id ? texts.connections.starting : tool.without_account ? texts.connections.try_it : signInPlace(tool.lanes)}
              </span>
              {policySentence(tool) === null ? null : <span class="card-text">{policySentence(tool)}</span>}
            </button>
          </li>
        ))}
      </ul>
      {tools.length === 0 ? <p class="muted">{texts.connections.no_tools}</p> : null}
      {is_operator && missing.length > 0 ? <MissingTools providers={missing} /> : null}
    </section>
  );
}

/** For operators. */
function MissingTools({ providers }: { providers: ProviderView[] }) {
  return (
    <details data-missing-tools>
      <summary>{texts.connections.show_missing(providers.length)}</summary>
      <ul class="files">
        {providers.map((provider) => (
          <li key={provider.id} data-missing={provider.id}>
            {provider.name} <span class="muted">{provider.policy === "forbidden" ? provider.policy_sentence : provider.unavailable}</span>
          </li>
        ))}
      </ul>
      <p class="muted">
        {texts.connections.how_to_install} <code>docs/providers.md</code>
      </p>
    </details>
  );
}
