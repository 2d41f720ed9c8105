// /dashboard/remote-cli/auth?session=…&provider=…[#login_token=…]: one session, live.
//
//   login token (if any) ─▶ a click ─▶ cookie ─▶ the desktop's socket and the state's stream, opened in parallel
//
// The page shows the session's state; it has no timer that changes it.

import { useEffect, useState } from "preact/hooks";
import { accessEnded, accessEndedProblem } from "../access-ended";
import { api, isUnreachable, toProblem, type ConsentView, type CurrentCaller, type Problem, type SessionView } from "../api";
import { ConsentStep } from "../components/consent-step";
import { ClosingSoon } from "../components/closing-soon";
import { Ended } from "../components/ended";
import { Frame } from "../components/frame";
import { LoadingPage } from "../components/loading-page";
import { LoginConfirmation } from "../components/login-confirmation";
import { DESKTOP_LABEL } from "../components/focus-trap";
import type { MachineView as MachineViewComponent } from "../components/machine-view";
import { NextAction } from "../components/next-action";
import { ProblemNote } from "../components/problem-note";
import { ReplacedNotice } from "../components/replaced-notice";
import { SessionControls } from "../components/session-controls";
import { StatusLine } from "../components/status-line";
import { SignInAnnouncement } from "../components/sign-in-announcement";
import { Steps } from "../components/steps";
import { Timeline } from "../components/timeline";
import { Desktop } from "../desktop";
import { messagesOf, postToSite } from "../embedding";
import { startHeartbeat } from "../heartbeat";
import { hasEnded } from "../labels";
import { extractLoginToken } from "../login-token";
import { isViewOnly, sessionPath } from "../pages";
import { Repeater } from "../repeater";
import { SessionStream } from "../session-stream";
import { useStore } from "../store";
import { texts } from "../texts";
import type { Terminal } from "../terminal";
import { SignedOut } from "./signed-out";

type LoginState = { step: "confirm"; problem: Problem | null } | { step: "log_in" } | { step: "finished"; problem: Problem | null };

/**
 * Exchanges the link's login token after a click. A rejected token does not matter if the browser has a cookie from an earlier login,
 * which needs no click.
 */
function useLogin(session: string): { state: LoginState; confirm: () => void } {
  const [login_token] = useState(extractLoginToken);
  const [state, setState] = useState<LoginState>(login_token === null ? { step: "finished", problem: null } : { step: "log_in" });
  useEffect(() => {
    if (login_token === null) return;
    api.session(session).then(
      () => setState({ step: "finished", problem: null }),
      () => setState({ step: "confirm", problem: null }),
    );
  }, [login_token, session]);
  const confirm = () => {
    setState({ step: "log_in" });
    api.login(login_token ?? "").then(
      () => setState({ step: "finished", problem: null }),
      (error: unknown) => setState({ step: isUnreachable(error) ? "confirm" : "finished", problem: toProblem(error) }),
    );
  };
  return { state, confirm };
}

export function AuthPage() {
  const id = new URLSearchParams(window.location.search).get("session") ?? "";
  const login = useLogin(id);
  if (id === "") {
    return (
      <Frame title={texts.address_not_complete} page="auth">
        <h1>{texts.address_not_complete}</h1>
        <p>{texts.check_whole_link}</p>
      </Frame>
    );
  }
  if (login.state.step === "confirm") return <LoginConfirmation onConfirm={login.confirm} problem={login.state.problem} />;
  if (login.state.step === "log_in") {
    return (
      <LoadingPage title={texts.signing_in} page="auth">
        {texts.one_moment}
      </LoadingPage>
    );
  }
  return <SessionPage id={id} login_problem={login.state.problem} view_only={isViewOnly()} />;
}

interface Connections {
  stream: SessionStream;
  desktop: Desktop;
}

/** The connections of the page, from its first to its last render. */
function useConnections(id: string, view_only: boolean): Connections {
  const [connections] = useState<Connections>(() => ({ stream: new SessionStream(id), desktop: new Desktop(id, DESKTOP_LABEL, view_only) }));
  useEffect(() => {
    const { stream, desktop } = connections;
    stream.start();
    const unsubscribe = desktop.socket.state.subscribe((state) => {
      // The desktop's socket learned before the stream that the session has ended or that the server is back.
      if (state.status === "access_ended") stream.endAccess(accessEndedProblem(state.close_code));
      else if (state.status === "ended" || (state.status === "open" && stream.state.value.status !== "live")) void stream.refresh();
    });
    return () => {
      unsubscribe();
      stream.stop();
      desktop.stop();
    };
  }, [connections]);
  return connections;
}

/** Sends the session's changes to the site whose frame or popup shows this page. Returns whether the page showed it before it ended. */
function useEmbedding(session: SessionView | null): boolean {
  const [shown, setShown] = useState<SessionView | null>(null);
  const [was_live, setWasLive] = useState(false);
  useEffect(() => {
    if (session === null || session === shown) return;
    postToSite(session, messagesOf(shown, session));
    setShown(session);
    if (!hasEnded(session.status)) setWasLive(true);
  }, [session, shown]);
  return was_live;
}

function useCurrentCaller(): CurrentCaller | null {
  const [caller, setCaller] = useState<CurrentCaller | null>(null);
  useEffect(() => {
    void api.currentCaller().then(setCaller, () => undefined);
  }, []);
  return caller;
}

/** The status comes first: while the user signs in in another tab, only the beginning of this title is visible. */
function titleOf(session: SessionView): string {
  return `${session.for_person.title} · ${session.provider_name}`;
}

function headline(session: SessionView, view_only: boolean): string {
  if (view_only) return `Watching ${session.provider_name}`;
  if (session.credential_use !== null) return `${session.provider_name} with a stored credential`;
  return session.renews === null ? `Connect ${session.provider_name}` : `Connect ${session.provider_name} again`;
}

/** The server's answer; "unknown" if there is none: the server enforces the consent by itself. */
type ConsentState = ConsentView | "loading" | "unknown";

function useConsent(id: string): [ConsentState, (consent: ConsentView) => void] {
  const [consent, setConsent] = useState<ConsentState>("loading");
  useEffect(() => {
    const requests = new Repeater(async () => {
      try {
        setConsent(await api.consent(id));
      } catch (error) {
        // Without an answer, try again; any other error says that there is nothing to agree to.
        if (isUnreachable(error)) throw error;
        setConsent("unknown");
      }
      return null;
    });
    requests.start();
    return () => requests.stop();
  }, [id]);
  return [consent, setConsent];
}

/** The machine's view, whose code is loaded once it is `wanted`; `null` until then. */
function useMachineView(wanted: boolean): typeof MachineViewComponent | null {
  const [view, setView] = useState<typeof MachineViewComponent | null>(null);
  useEffect(() => {
    if (!wanted) return undefined;
    const loads = new Repeater(async () => {
      const { MachineView } = await import("../components/machine-view");
      setView(() => MachineView);
      return null;
    });
    loads.start();
    return () => loads.stop();
  }, [wanted]);
  return view;
}

/** Whether the page has one column. */
function useIsNarrow(): boolean {
  const [query] = useState(() => window.matchMedia("(max-width: 59.99rem)"));
  const [is_narrow, setIsNarrow] = useState(query.matches);
  useEffect(() => {
    const onChange = () => setIsNarrow(query.matches);
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, [query]);
  return is_narrow;
}

/** Whether the user signs in in the machine, not in another browser: then the machine comes before the instruction. */
function isUsedInMachine(session: SessionView, view_only: boolean): boolean {
  const [preferred] = session.lanes;
  return view_only || session.machine !== null || preferred === "desktop" || preferred === "terminal";
}

interface SessionPageProps {
  id: string;
  login_problem: Problem | null;
  view_only: boolean;
}

function SessionPage({ id, login_problem, view_only }: SessionPageProps) {
  const { stream, desktop } = useConnections(id, view_only);
  const { session: known_session, timeline, helpers, status: stream_status, problem } = useStore(stream.state);
  const [terminal, setTerminal] = useState<Terminal | null>(null);
  const caller = useCurrentCaller();
  const is_operator = caller?.role === "operator";
  const [consent, setConsent] = useConsent(id);
  const asks_consent = typeof consent === "object" && consent.status === "required";
  const may_connect = consent !== "loading" && !asks_consent;
  const has_ended = known_session !== null && hasEnded(known_session.status);
  const MachineView = useMachineView(may_connect && !has_ended);
  // What the page shows depends on all of them, and must not move when the last one arrives.
  const is_loading = consent === "loading" || (may_connect && MachineView === null && !has_ended);
  const session = is_loading ? null : known_session;
  useEffect(() => {
    if (may_connect) desktop.start();
  }, [desktop, may_connect]);
  const was_live = useEmbedding(known_session);
  const is_narrow = useIsNarrow();
  const ended = session !== null && hasEnded(session.status);
  const status = session?.status;
  const generation = session?.generation;

  // A view-only page must not keep the session alive.
  const keeps_alive = !ended && problem === null && !view_only;
  useEffect(() => (keeps_alive ? startHeartbeat(id) : undefined), [id, keeps_alive]);
  // After a change of the state, a connection that failed before may succeed.
  useEffect(() => {
    if (ended) {
      desktop.stop();
      terminal?.stop();
    } else {
      desktop.socket.retryNow();
      terminal?.retryNow();
    }
  }, [desktop, terminal, ended, status, generation, stream_status]);

  // Retry when the page becomes visible or the browser is online again.
  useEffect(() => {
    const onReturn = () => {
      if (document.visibilityState !== "visible") return;
      stream.retryNow();
      desktop.socket.retryNow();
      terminal?.retryNow();
    };
    document.addEventListener("visibilitychange", onReturn);
    window.addEventListener("online", onReturn);
    return () => {
      document.removeEventListener("visibilitychange", onReturn);
      window.removeEventListener("online", onReturn);
    };
  }, [stream, desktop, terminal]);

  const openTerminal = () => {
    if (terminal !== null) return;
    void import("../terminal").then((module) => setTerminal((existing) => existing ?? new module.Terminal(id)));
  };

  if (problem !== null) return <SessionProblem problem={problem} login_problem={login_problem} />;
  if (session !== null && ended) {
    return (
      <Frame title={titleOf(session)} page="auth" status={session.status}>
        <Ended
          session={session}
          can_start={caller !== null && caller.session === null}
          was_live={was_live}
          details={is_operator ? <Timeline entries={timeline} open={session.status === "failed"} /> : null}
        />
      </Frame>
    );
  }
  const machine_first = is_narrow && session !== null && isUsedInMachine(session, view_only);
  const machine_view = asks_consent || session === null || MachineView === null ? null : (
    <MachineView key="machine" id={id} session={session} desktop={desktop} terminal={terminal} openTerminal={openTerminal} />
  );
  return (
    <Frame
      title={session === null ? texts.session : titleOf(session)}
      page="auth"
      status={status ?? "loading"}
      audience={is_operator ? "operator" : "person"}
      wide
    >
      <div class="session">
        <div class="panel-column session-head">
          <h1>{session === null ? texts.session : headline(session, view_only)}</h1>
          {session === null ? (
            <p class="muted" role="status">
              {stream_status === "lost" ? texts.connection_lost : texts.loading}
            </p>
          ) : (
            <>
              <StatusLine session={session} stream_status={stream_status} />
              <ReplacedNotice session={session} />
            </>
          )}
        </div>
        {machine_first ? machine_view : null}
        {session === null ? null : (
          <div key="action" class="panel-column">
            {asks_consent ? (
              <ConsentStep id={id} consent={consent} onAgreed={setConsent} />
            ) : view_only ? (
              <ViewOnlyNotice session={session} can_control={caller !== null && caller.role !== "helper"} />
            ) : (
              <>
                <NextAction session={session} />
                <SignInAnnouncement session={session} />
              </>
            )}
          </div>
        )}
        {machine_first ? null : machine_view}
        {session === null ? null : (
          <div key="steps" class="panel-column">
            <Steps session={session} />
            {view_only ? null : <SessionControls session={session} helpers={helpers} />}
          </div>
        )}
        {session !== null && is_operator ? (
          <div key="timeline" class="session-timeline">
            <Timeline entries={timeline} open={false} />
          </div>
        ) : null}
      </div>
    </Frame>
  );
}

function ViewOnlyNotice({ session, can_control }: { session: SessionView; can_control: boolean }) {
  return (
    <div class="note" data-notice="view-only">
      <p>
        <strong>{texts.view_only}</strong> {texts.view_only_detail}
      </p>
      <ClosingSoon session={session} can_keep_open={false} />
      {can_control ? (
        <p>
          <a class="button small" href={sessionPath(session.id, { provider: session.provider })}>
            Take control
          </a>
        </p>
      ) : null}
    </div>
  );
}

function SessionProblem({ problem, login_problem }: { problem: Problem; login_problem: Problem | null }) {
  if (problem.close_code === 4401 || accessEnded(problem.close_code) !== null) return <SignedOut problem={login_problem ?? problem} of_session />;
  return (
    <Frame title={texts.cannot_be_shown} page="auth" status="error">
      <h1>{texts.cannot_be_shown}</h1>
      <ProblemNote problem={problem} />
    </Frame>
  );
}
