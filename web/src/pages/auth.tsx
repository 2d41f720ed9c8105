// /dashboard/remote-cli/auth?session=…&provider=…[#login_token=…]: one session, live.
//
//   pass (if any) ─▶ cookie ─▶ desktop's socket and state's stream, at once and side by side
//
// The page is what the session's state says; no timer of its own moves it.

import { useEffect, useState } from "preact/hooks";
import { api, asProblem, type Me, type ProblemBody, type SessionView } from "../api";
import { Desktop } from "../desktop";
import { startHeartbeat } from "../heartbeat";
import { Live } from "../session-stream";
import { Controls } from "../components/controls";
import { Countdown } from "../components/countdown";
import { Ended } from "../components/ended";
import { Frame } from "../components/frame";
import { NextAction } from "../components/next-action";
import { ProblemNote } from "../components/problem-note";
import { Replaced } from "../components/replaced";
import { Stage } from "../components/machine-view";
import { StatusLine } from "../components/status-line";
import { Steps } from "../components/steps";
import { Timeline } from "../components/timeline";
import { enter, takePass } from "../login-token";
import { isViewOnly, PICK_PAGE, sessionPage } from "../pages";
import { useStore } from "../store";
import type { Terminal } from "../terminal";
import { isOver, statusWords } from "../labels";
import { SignedOut } from "./signed-out";

/** Exchanges the link's pass; what came of it. A refused pass is no matter when the cookie is there from before. */
function usePass(): { ready: boolean; refused: ProblemBody | null } {
  const [pass] = useState(takePass);
  const [state, set] = useState<{ ready: boolean; refused: ProblemBody | null }>({ ready: pass === null, refused: null });
  useEffect(() => {
    if (pass === null) return;
    enter(pass).then(
      () => set({ ready: true, refused: null }),
      (thrown: unknown) => set({ ready: true, refused: asProblem(thrown) }),
    );
  }, [pass]);
  return state;
}

export function Auth() {
  const id = new URLSearchParams(window.location.search).get("session") ?? "";
  const pass = usePass();
  if (id === "") {
    return (
      <Frame title="No session" page="auth">
        <h1>Which session?</h1>
        <p>The address names no session.</p>
        <p>
          <a class="button primary" href={PICK_PAGE}>
            Pick a tool
          </a>
        </p>
      </Frame>
    );
  }
  if (!pass.ready) {
    return (
      <Frame title="Signing in" page="auth">
        <p role="status">Signing this browser in…</p>
      </Frame>
    );
  }
  return <Session id={id} pass_refused={pass.refused} view_only={isViewOnly()} />;
}

interface Parts {
  live: Live;
  desktop: Desktop;
}

/** The session's live parts, for as long as the page shows it. */
function useParts(id: string, view_only: boolean): Parts {
  const [parts] = useState<Parts>(() => ({ live: new Live(id), desktop: new Desktop(id, view_only) }));
  useEffect(() => {
    parts.desktop.start();
    parts.live.start();
    const unwatch = parts.desktop.socket.state.watch((state) => {
      // Told that it is over before the state said so, or back at the server before the state's own connection: ask for it.
      if (state.is === "over" || (state.is === "open" && parts.live.state.value.link !== "live")) void parts.live.refresh();
    });
    return () => {
      unwatch();
      parts.live.stop();
      parts.desktop.stop();
    };
  }, [parts]);
  return parts;
}

function useMe(): Me | null {
  const [me, set] = useState<Me | null>(null);
  useEffect(() => {
    void api.me().then(set, () => undefined);
  }, []);
  return me;
}

/** The state first: the person may be signing in in another tab and see no more than this. */
function titleOf(session: SessionView): string {
  return `${statusWords(session.status).title} · ${session.provider_name}`;
}

function headline(session: SessionView, view_only: boolean): string {
  if (view_only) return `Watching ${session.provider_name}`;
  if (session.credential_use !== null) return `${session.provider_name} with a stored credential`;
  return session.renews === null ? `Sign ${session.provider_name} in` : `Sign ${session.provider_name} in again`;
}

interface SessionProps {
  id: string;
  pass_refused: ProblemBody | null;
  /** Whether the person only looks on. */
  view_only: boolean;
}

function Session({ id, pass_refused, view_only }: SessionProps) {
  const { live, desktop } = useParts(id, view_only);
  const { session, timeline, link, refusal } = useStore(live.state);
  const [terminal, setTerminal] = useState<Terminal | null>(null);
  const me = useMe();
  const over = session !== null && isOver(session.status);
  const status = session?.status;
  const generation = session?.generation;

  // Looking on is no use of the session.
  const uses = !over && refusal === null && !view_only;
  useEffect(() => (uses ? startHeartbeat(id) : undefined), [id, uses]);
  // A new state may be what a waiting socket waits for.
  useEffect(() => {
    if (over) {
      desktop.stop();
      terminal?.stop();
    } else {
      desktop.socket.nudge();
      terminal?.socket.nudge();
    }
  }, [desktop, terminal, over, status, generation, link]);

  // Back in sight, or back on the net: a wait that was long enough.
  useEffect(() => {
    const back = () => {
      if (document.visibilityState !== "visible") return;
      desktop.socket.nudge();
      terminal?.socket.nudge();
    };
    document.addEventListener("visibilitychange", back);
    window.addEventListener("online", back);
    return () => {
      document.removeEventListener("visibilitychange", back);
      window.removeEventListener("online", back);
    };
  }, [desktop, terminal]);

  const openTerminal = () => {
    if (terminal === null) void import("../terminal").then((code) => setTerminal((have) => have ?? new code.Terminal(id)));
  };

  if (refusal !== null) return <Refusal refusal={refusal} pass_refused={pass_refused} />;
  if (session !== null && over) {
    return (
      <Frame title={titleOf(session)} page="auth" status={session.status}>
        <Ended session={session} timeline={timeline} may_start={me !== null && me.role !== "viewer"} />
      </Frame>
    );
  }
  return (
    <Frame title={session === null ? "Session" : titleOf(session)} page="auth" status={status ?? "loading"} wide>
      <div class="session">
        <div class="panel-column">
          <h1>{session === null ? "Session" : headline(session, view_only)}</h1>
          {session === null ? (
            <p class="quiet" role="status">
              {link === "lost" ? "The server does not answer. Trying again by itself." : "Loading…"}
            </p>
          ) : (
            <>
              <StatusLine session={session} link={link} />
              <Replaced session={session} timeline={timeline} />
              {view_only ? <ViewOnly session={session} /> : <NextAction session={session} />}
            </>
          )}
        </div>
        <Stage id={id} session={session} desktop={desktop} terminal={terminal} openTerminal={openTerminal} />
        {session === null ? null : (
          <div class="panel-column">
            <Steps session={session} />
            {view_only ? null : <Controls session={session} />}
          </div>
        )}
        <div class="below">
          <Timeline entries={timeline} open={false} />
        </div>
      </div>
    </Frame>
  );
}

function ViewOnly({ session }: { session: SessionView }) {
  return (
    <div class="note" data-notice="view-only">
      <p>
        <strong>View only.</strong> What you type and click here does not reach the machine, and looking on does not keep the
        session alive.
      </p>
      <p>
        <Countdown until={session.idle_deadline_at} before="Ends if unused in" />
      </p>
      <p>
        <a class="button small" href={sessionPage(session.id, session.provider)}>
          Take part
        </a>
      </p>
    </div>
  );
}

function Refusal({ refusal, pass_refused }: { refusal: ProblemBody; pass_refused: ProblemBody | null }) {
  if (refusal.close_code === 4401) return <SignedOut problem={pass_refused ?? refusal} />;
  return (
    <Frame title="This session cannot be shown" page="auth" status="refused">
      <h1>This session cannot be shown</h1>
      <ProblemNote problem={refusal} />
      <p>
        <a class="button primary" href={PICK_PAGE}>
          Pick a tool
        </a>
      </p>
    </Frame>
  );
}
