// /dashboard/remote-cli: a person's connections: open sign-ins, connected tools, tools to connect.

import type { ComponentChildren } from "preact";
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
import { AccountBar } from "../components/account-bar";
import { AddTool, useSignInStart, type SignInStart } from "../components/add-tool";
import { Connected } from "../components/connected";
import { Frame } from "../components/frame";
import { HealthNote } from "../components/health-note";
import { IsolationNote } from "../components/isolation-note";
import { OpenSignIns } from "../components/open-sign-ins";
import { OtherConnectionsHint } from "../components/operator-hint";
import { ProblemNote } from "../components/problem-note";
import { SignedInBrowsers } from "../components/signed-in-browsers";
import { hasEnded } from "../labels";
import { sessionPath } from "../pages";
import { Repeater } from "../repeater";
import { session_events } from "../session-events";
import { language, texts } from "../texts";
import { SignedOut } from "./signed-out";

/** How often the lists are requested, in addition to the changes that the event stream reports. */
const INTERVAL_MS = 10_000;
/** Changes of sessions that arrive together cause one request. */
const CHANGE_DELAY_MS = 100;

interface PageData {
  caller: CurrentCaller;
  providers: ProviderView[];
  /** Those that have not ended. */
  sessions: SessionView[];
  credentials: CredentialMeta[];
  health: Health | null;
}

/** An operator may see everybody's; those of others are on the operators' pages. */
const ownerShown = (caller: CurrentCaller) => (caller.role === "operator" ? caller.name : null);

const openSessions = async (caller: CurrentCaller) => (await api.openSessions(ownerShown(caller))).filter((session) => !hasEnded(session.status));

/** What may change while the page is shown. */
async function refresh(known: PageData): Promise<PageData> {
  if (known.caller.role === "auditor") return { ...known, health: await api.health() };
  const [sessions, credentials] = await Promise.all([openSessions(known.caller), api.credentials(ownerShown(known.caller))]);
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
    openSessions(caller),
    api.credentials(ownerShown(caller)),
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
        return INTERVAL_MS;
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
  // The texts of the data are in the language in which it was received.
  useEffect(() => language.subscribe(reload), [reload]);
  const has_sessions = data !== null && data.caller.role !== "auditor" && signed_out === null;
  useEffect(() => {
    if (!has_sessions) return undefined;
    let timer: number | undefined;
    const reloadSoon = () => {
      timer ??= window.setTimeout(() => {
        timer = undefined;
        // A hidden page is current again when it is shown.
        if (document.visibilityState === "visible") reload();
      }, CHANGE_DELAY_MS);
    };
    const stop = session_events.listen({ onSession: reloadSoon, onReset: reloadSoon });
    // The access has ended: the next request shows why.
    const stopState = session_events.state.subscribe(({ problem }) => {
      if (problem !== null) reloadSoon();
    });
    return () => {
      stop();
      stopState();
      window.clearTimeout(timer);
    };
  }, [has_sessions, reload]);
  return { data, problem, signed_out, reload };
}

export function StartPage() {
  const { data, problem, signed_out, reload } = usePageData();
  const is_operator = data?.caller.role === "operator";
  if (signed_out !== null) return <SignedOut problem={signed_out} />;
  const bar = <AccountBar caller={data?.caller ?? null} />;
  if (data?.caller.role === "auditor") return <AuditorPage name={data.caller.name} health={data.health} bar={bar} />;
  return (
    <Frame title={texts.connections.title} page="start" audience={is_operator ? "operator" : "person"} bar={bar}>
      <h1>{texts.connections.title}</h1>
      {problem === null ? null : (
        <ProblemNote problem={problem}>
          <p>{texts.connections.tries_again}</p>
          <button type="button" onClick={reload}>
            {texts.try_again}
          </button>
        </ProblemNote>
      )}
      {data !== null ? (
        <Connections data={data} onChange={reload} />
      ) : problem === null ? (
        <p class="muted" role="status">
          {texts.loading}
        </p>
      ) : null}
    </Frame>
  );
}

function Connections({ data, onChange }: { data: PageData; onChange: () => void }) {
  const { caller, providers, sessions, credentials, health } = data;
  const sign_in = useSignInStart();
  const is_operator = caller.role === "operator";
  const sign_ins = sessions.filter((session) => session.credential_use === null);
  const has_connections = sign_ins.length > 0 || credentials.length > 0;
  return (
    <>
      {is_operator && health?.status === "down" ? <HealthNote health={health} /> : null}
      {has_connections ? null : <NothingYet providers={providers} sign_in={sign_in} />}
      <OpenSignIns sessions={sign_ins} is_operator={is_operator} onChange={onChange} />
      <Connected credentials={credentials} providers={providers} sessions={sessions} caller={caller} onChange={onChange} />
      {is_operator ? <OtherConnectionsHint /> : null}
      <AddTool providers={providers} has_connections={has_connections} is_operator={is_operator} sign_in={sign_in} />
      {is_operator ? (
        <>
          {health?.status === "down" ? null : <HealthNote health={health} />}
          <IsolationNote isolation={health?.isolation ?? null} />
        </>
      ) : null}
      <SignedInBrowsers />
    </>
  );
}

function NothingYet({ providers, sign_in }: { providers: ProviderView[]; sign_in: SignInStart }) {
  const demo = providers.find((provider) => provider.without_account && provider.available);
  return (
    <div class="panel" data-empty>
      <p>
        {texts.connections.nothing_yet} {demo === undefined ? texts.connections.choose_below : texts.connections.try_demo_detail(demo.name)}
      </p>
      {demo === undefined ? null : (
        <button type="button" class="primary" aria-disabled={sign_in.starting !== null} onClick={() => sign_in.start(demo.id)}>
          {texts.connections.try_demo(demo.name)}
        </button>
      )}
    </div>
  );
}

function AuditorPage({ name, health, bar }: { name: string; health: Health | null; bar: ComponentChildren }) {
  return (
    <Frame title="Audit" page="start" status="auditor" bar={bar}>
      <h1 lang="en">Audit</h1>
      <p lang="en">
        Signed in as {name}, auditor. Auditors do not see sessions and credentials. They read the audit trail with{" "}
        <code>GET /api/audit</code> and an API token, or on the server with <code>anteroom audit export</code>.
      </p>
      <HealthNote health={health} />
      <SignedInBrowsers />
    </Frame>
  );
}
