// Says that somebody is here: every 20 s while the page can be seen, and at once when it comes back into sight.

import { api } from "./api";

const BEAT_MS = 20_000;

/** Returns what ends it. A beat that fails is no news: the state's own connection tells when the server is away. */
export function startHeartbeat(session: string): () => void {
  const beat = () => {
    if (document.visibilityState === "visible") void api.heartbeat(session).catch(() => undefined);
  };
  const timer = window.setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  beat();
  return () => {
    window.clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
  };
}
