// Reports activity to the server while the page is visible: every 20 s, and at once when the page becomes visible.

import { api } from "./api";

const HEARTBEAT_INTERVAL_MS = 20_000;

/** Starts the heartbeat and returns the function that stops it. Failed heartbeats are ignored: the session's stream detects a lost server. */
export function startHeartbeat(session: string): () => void {
  const beat = () => {
    if (document.visibilityState === "visible") void api.heartbeat(session).catch(() => undefined);
  };
  const timer = window.setInterval(beat, HEARTBEAT_INTERVAL_MS);
  document.addEventListener("visibilitychange", beat);
  beat();
  return () => {
    window.clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
  };
}
