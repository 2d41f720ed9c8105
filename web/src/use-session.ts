// What the page of a session requests and sends: the session's state, the person's consent and role, signs of use, and messages to the
// site around the page.

import { useEffect, useState } from "preact/hooks";
import { accessEndedProblem } from "./access-ended";
import { api, isUnreachable, type ConsentView, type CurrentCaller, type SessionView } from "./api";
import type { Desktop } from "./desktop";
import { messagesOf, postToSite } from "./embedding";
import { startHeartbeat } from "./heartbeat";
import { hasEnded } from "./labels";
import { Repeater } from "./repeater";
import { SessionStream, type SessionStreamState } from "./session-stream";
import { useStore } from "./store";
import type { Terminal } from "./terminal";

/** The session's state, from the first to the last render of the page. */
export function useStream(id: string): [SessionStream, SessionStreamState] {
  const [stream] = useState(() => new SessionStream(id));
  useEffect(() => {
    stream.start();
    return () => stream.stop();
  }, [stream]);
  return [stream, useStore(stream.state)];
}

/** Keeps the session in use while the page is shown. */
export function useHeartbeat(id: string, keeps_open: boolean): void {
  useEffect(() => (keeps_open ? startHeartbeat(id) : undefined), [id, keeps_open]);
}

/** Lets the connections of the page help each other: what one notices, the others need not wait for. */
export function useReconnection(stream: SessionStream, state: SessionStreamState, desktop: Desktop | null, terminal: Terminal | null): void {
  const { session, status: stream_status } = state;
  // After a change of the state, a connection that failed before may succeed.
  useEffect(() => {
    desktop?.socket.retryNow();
    terminal?.retryNow();
  }, [desktop, terminal, session?.status, session?.generation, stream_status]);
  // An open desktop learns of an end, or that the server is back, before the stream.
  useEffect(
    () =>
      desktop?.socket.state.subscribe((socket) => {
        if (socket.status === "access_ended") stream.endAccess(accessEndedProblem(socket.close_code));
        else if (socket.status === "ended" || (socket.status === "open" && stream.state.value.status !== "live")) void stream.refresh();
      }),
    [stream, desktop],
  );
  // When the page becomes visible or the browser is online again.
  useEffect(() => {
    const onReturn = () => {
      if (document.visibilityState !== "visible") return;
      stream.retryNow();
      desktop?.socket.retryNow();
      terminal?.retryNow();
    };
    document.addEventListener("visibilitychange", onReturn);
    window.addEventListener("online", onReturn);
    return () => {
      document.removeEventListener("visibilitychange", onReturn);
      window.removeEventListener("online", onReturn);
    };
  }, [stream, desktop, terminal]);
}

/** Sends the session's changes to the site whose frame or popup shows this page. Returns whether the page showed it before it ended. */
export function useEmbedding(session: SessionView | null): boolean {
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

export function useCurrentCaller(): CurrentCaller | null {
  const [caller, setCaller] = useState<CurrentCaller | null>(null);
  useEffect(() => {
    void api.currentCaller().then(setCaller, () => undefined);
  }, []);
  return caller;
}

/** The server's answer; "unknown" if there is none: the server enforces the consent by itself. */
export type ConsentState = ConsentView | "loading" | "unknown";

export function useConsent(id: string): [ConsentState, (consent: ConsentView) => void] {
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
