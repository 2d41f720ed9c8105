// A session that may be shown: the consent, the tabs of its lanes, and its end.

import type { CurrentCaller, Problem, SessionView } from "../api";
import { accessEnded } from "../access-ended";
import { ConsentStep } from "../components/consent-step";
import { Ended } from "../components/ended";
import { Frame } from "../components/frame";
import { LanesView } from "../components/lanes-view";
import { SessionLoading } from "../components/loading-page";
import { ProblemNote } from "../components/problem-note";
import { ReplacedNotice } from "../components/replaced-notice";
import { SessionFooter } from "../components/session-footer";
import { SignInAnnouncement } from "../components/sign-in-announcement";
import { StatusLine } from "../components/status-line";
import { Timeline } from "../components/timeline";
import { hasEnded } from "../labels";
import { sessionIn } from "../lanes";
import { START_PATH } from "../pages";
import type { SessionStreamState } from "../session-stream";
import { texts } from "../texts";
import { useDesktop, useLanes, useTerminal, type DesktopPart, type Lanes, type TerminalPart } from "../use-lanes";
import { useConsent, useCurrentCaller, useEmbedding, useHeartbeat, useReconnection, useStream } from "../use-session";
import { SignedOut } from "./signed-out";

/** The status comes first: while the user signs in in another tab, only the beginning of this title is visible. */
function titleOf(session: SessionView): string {
  return `${session.for_person.title} · ${session.provider_name}`;
}

function headline(session: SessionView, view_only: boolean): string {
  const { provider_name: tool } = session;
  if (view_only) return texts.watching(tool);
  if (session.credential_use !== null) return texts.with_stored_credential(tool);
  return session.renews === null ? texts.connect_tool(tool) : texts.connect_tool_again(tool);
}

interface SessionPageProps {
  id: string;
  login_problem: Problem | null;
  view_only: boolean;
}

export function SessionPage({ id, login_problem, view_only }: SessionPageProps) {
  const [stream, state] = useStream(id);
  const { session: known_session, problem } = state;
  const caller = useCurrentCaller();
  const [consent, setConsent] = useConsent(id);
  const asks_consent = typeof consent === "object" && consent.status === "required";
  // What the page shows depends on both, and must not move when the second one arrives.
  const session = consent === "loading" ? null : known_session;
  const has_ended = session !== null && hasEnded(session.status);
  const lanes = useLanes(session, view_only);
  const may_connect = session !== null && !asks_consent && !has_ended && problem === null;
  const desktop = useDesktop(id, lanes, view_only, may_connect);
  const terminal = useTerminal(id, lanes, may_connect);
  useReconnection(stream, state, desktop?.desktop ?? null, terminal?.terminal ?? null);
  // A view-only page must not keep the session alive.
  useHeartbeat(id, !has_ended && problem === null && !view_only);
  const was_live = useEmbedding(known_session);

  if (problem !== null) return <SessionProblem problem={problem} login_problem={login_problem} />;
  const is_operator = caller?.role === "operator";
  // One frame for all of them, so that it is not drawn again.
  return (
    <Frame
      title={session === null ? texts.session : titleOf(lanes === null || has_ended ? session : sessionIn(lanes.open.tab, session))}
      page="auth"
      status={session?.status ?? "loading"}
      audience={is_operator ? "operator" : "person"}
      wide={!has_ended}
    >
      {session === null || lanes === null ? (
        <SessionLoading>{state.status === "lost" ? texts.connection_lost : undefined}</SessionLoading>
      ) : has_ended ? (
        <Ended
          session={session}
          can_start={caller !== null && caller.session === null}
          was_live={was_live}
          details={is_operator ? <Timeline entries={state.timeline} open={session.status === "failed"} /> : null}
        />
      ) : asks_consent ? (
        <ConsentStep session={session} consent={consent} onAgreed={setConsent} />
      ) : (
        <LiveSession session={session} state={state} caller={caller} view_only={view_only} lanes={lanes} desktop={desktop} terminal={terminal} />
      )}
    </Frame>
  );
}

interface LiveSessionProps {
  session: SessionView;
  state: SessionStreamState;
  caller: CurrentCaller | null;
  view_only: boolean;
  lanes: Lanes;
  desktop: DesktopPart | null;
  terminal: TerminalPart | null;
}

function LiveSession({ session, state, caller, view_only, lanes, desktop, terminal }: LiveSessionProps) {
  const { tab } = lanes.open;
  const is_loading = (tab === "desktop" && desktop === null) || (tab === "terminal" && terminal === null);
  return (
    <div class={`session ${tab}${is_loading ? " loading-lane" : ""}`}>
      <div class="session-head">
        <h1>{headline(session, view_only)}</h1>
        <StatusLine session={sessionIn(tab, session)} stream_status={state.status} />
      </div>
      <ReplacedNotice session={session} />
      <LanesView
        session={session}
        timeline={state.timeline}
        lanes={lanes}
        desktop={desktop}
        terminal={terminal}
        is_lost={state.status === "lost"}
        view_only={view_only}
        can_control={caller !== null && caller.role !== "helper"}
      />
      {view_only ? null : <SignInAnnouncement session={session} />}
      <SessionFooter session={sessionIn(tab, session)} timeline={state.timeline} helpers={state.helpers} view_only={view_only} />
      {caller?.role === "operator" ? <Timeline entries={state.timeline} open={false} /> : null}
    </div>
  );
}

/** The way on from a page that has nothing to show. */
export function ToStartPage() {
  return (
    <p>
      <a class="button primary" href={START_PATH}>
        {texts.connections.title}
      </a>
    </p>
  );
}

function SessionProblem({ problem, login_problem }: { problem: Problem; login_problem: Problem | null }) {
  if (problem.close_code === 4401 || accessEnded(problem.close_code) !== null) return <SignedOut problem={login_problem ?? problem} of_session />;
  const is_unknown = problem.code === "unknown_session" || problem.code === "malformed";
  const title = is_unknown ? texts.no_such_sign_in : texts.cannot_be_shown;
  return (
    <Frame title={title} page="auth" status="error">
      <h1>{title}</h1>
      {is_unknown ? (
        <p role="alert" data-problem={problem.code}>
          {texts.no_such_sign_in_detail}
        </p>
      ) : (
        <ProblemNote problem={problem} />
      )}
      <ToStartPage />
    </Frame>
  );
}
