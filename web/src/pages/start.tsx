// /dashboard/remote-cli: start a session; earlier sessions and stored credentials.

import { useCallback, useEffect, useState } from "preact/hooks";
import {
  api,
  ApiError,
  toProblem,
  type CredentialMeta,
  type CurrentCaller,
  type Health,
  type Problem,
  type ProviderView,
  type SessionView,
} from "../api";
import { Browsers } from "../components/browsers";
import { Credentials } from "../components/credentials";
import { Frame } from "../components/frame";
import { HealthNote } from "../components/health-note";
import { IsolationNote } from "../components/isolation-note";
import { ProblemNote } from "../components/problem-note";
import { Providers } from "../components/providers";
import { Sessions } from "../components/sessions";
import { hasEnded } from "../labels";
import { sessionPath } from "../pages";
import { Repeater } from "../repeater";
import { texts } from "../texts";
import { SignedOut } from "./signed-out";

/** How often the lists are requested, while a session is active and while none is. */
const ACTIVE_INTERVAL_MS = 2_000;
const IDLE_INTERVAL_MS = 10_000;

interface PageData {
  caller: CurrentCaller;
  providers: ProviderView[];
  sessions: SessionView[];
  credentials: CredentialMeta[];
  health: Health | null;
}

/** What may change while the page is shown. */
async function refresh(known: PageData): Promise<PageData> {
  if (known.caller.role === "auditor") return { ...known, health: await api.health() };
  const [sessions, credentials] = await Promise.all([api.sessions(), api.credentials()]);
  return { ...known, sessions, credentials };
}

async function load(): Promise<PageData> {
  const caller = await api.currentCaller();
  if (caller.session !== null) {
    // A viewer or helper may see only one session: redirect to its page.
    const session = await api.session(caller.session);
    window.location.replace(sessionPath(session.id, { provider: session.provider }));
    return new Promise(() => undefined);
  }
  // An auditor has no access to sessions and credentials.
  if (caller.role === "auditor") return { caller, providers: [], sessions: [], credentials: [], health: await api.health() };
  const [providers, sessions, credentials, health] = await Promise.all([
    api.providers(),
    api.sessions(),
    api.credentials(),
    api.health(),
  ]);
  return { caller, providers, sessions, credentials, health };
}

/** The data of the page, kept current. */
function usePageData() {
  const [data, setData] = useState<PageData | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [signed_out, setSignedOut] = useState<Problem | null>(null);
  const [requests] = useState(() => {
    let known: PageData | null = null;
    return new Repeater(async () => {
      try {
        const next = known === null ? await load() : await refresh(known);
        known = next;
        setData(next);
        setProblem(null);
        return next.sessions.some((session) => !hasEnded(session.status)) ? ACTIVE_INTERVAL_MS : IDLE_INTERVAL_MS;
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) {
          setSignedOut(error.problem);
          return null;
        }
        // Afterwards, everything may have changed.
        known = null;
        setProblem(toProblem(error));
        throw error;
      }
    });
  });
  useEffect(() => {
    requests.start();
    return () => requests.stop();
  }, [requests]);
  const reload = useCallback(() => requests.now(), [requests]);
  return { data, problem, signed_out, reload };
}

export function StartPage() {
  const { data, problem, signed_out, reload } = usePageData();
  const is_operator = data?.caller.role === "operator";
  if (signed_out !== null) return <SignedOut problem={signed_out} />;
  if (data?.caller.role === "auditor") return <AuditorPage name={data.caller.name} health={data.health} />;
  return (
    <Frame title={texts.connect_a_tool} page="start" audience={is_operator ? "operator" : "person"}>
      <h1>{texts.connect_a_tool}</h1>
      <p class="lead">
        Choose a tool and sign in. It runs on a temporary computer that is deleted afterwards. Only your sign-in is kept,
        encrypted.
      </p>
      {problem === null ? null : (
        <ProblemNote problem={problem}>
          <p>This page tries again by itself.</p>
          <button type="button" onClick={reload}>
            Try again
          </button>
        </ProblemNote>
      )}
      {data === null ? (
        problem === null ? (
          <p class="muted" role="status">
            {texts.loading}
          </p>
        ) : null
      ) : (
        <>
          {data.caller.sign_in === "oidc" ? <p class="muted">Signed in as {data.caller.name}.</p> : null}
          {is_operator ? (
            <>
              <HealthNote health={data.health} />
              <IsolationNote isolation={data.health?.isolation ?? null} />
            </>
          ) : null}
          <Providers providers={is_operator ? data.providers : data.providers.filter((provider) => provider.available)} />
          <Sessions sessions={data.sessions} />
          <Credentials credentials={data.credentials} providers={data.providers} onChange={reload} />
          <Browsers />
        </>
      )}
    </Frame>
  );
}

function AuditorPage({ name, health }: { name: string; health: Health | null }) {
  return (
    <Frame title="Audit" page="start" status="auditor">
      <h1>Audit</h1>
      <p>
        Signed in as {name}, auditor. Auditors do not see sessions and credentials. They read the audit trail with{" "}
        <code>GET /api/audit</code> and an API token, or on the server with <code>anteroom audit export</code>.
      </p>
      <HealthNote health={health} />
      <Browsers />
    </Frame>
  );
}
