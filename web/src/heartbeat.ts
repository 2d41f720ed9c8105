// Reports to the server that a person has the page open: every 20 s, and at once when the page becomes visible or hidden. A hidden page
// counts too: the person signs in in another tab.

import { api } from "./api";

const HEARTBEAT_INTERVAL_MS = 20_000;

/** Starts the heartbeat and returns the function that stops it. Failed heartbeats are ignored: the session's stream detects a lost server. */
export function startHeartbeat(session: string): () => void {
  const beat = () => void api.heartbeat(session).catch(() => undefined);
  const timer = window.setInterval(beat, HEARTBEAT_INTERVAL_MS);
  document.addEventListener("visibilitychange", beat);
  beat();
  return () => {
    window.clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
  };
}
