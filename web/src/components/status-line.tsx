// What is so now, in one line; told politely to those who do not see it.

import type { SessionView } from "../api";
import type { Link } from "../session-stream";
import { stageWords, statusWords } from "../labels";

export function waitsFor(session: SessionView | null): string | null {
  if (session === null) return null;
  if (session.queue_position !== null) return `Number ${session.queue_position} in the queue for a machine`;
  return session.stage === null ? null : `Now: ${stageWords(session.stage)}`;
}

const LINK_WORDS: Record<Link, string | null> = {
  connecting: null,
  live: null,
  polling: "Live updates do not arrive here; asking every few seconds instead.",
  lost: "The server does not answer. Trying again by itself.",
};

export function StatusLine({ session, link }: { session: SessionView; link: Link }) {
  const words = statusWords(session.status);
  const waits = waitsFor(session);
  return (
    <div class={`status ${words.tone}`} role="status" aria-live="polite">
      <p class="status-title">
        <span class="lamp" aria-hidden="true" />
        {words.title}
      </p>
      {session.machine === null ? null : <p class="status-detail">On the external machine {session.machine}</p>}
      {waits === null ? null : <p class="status-detail">{waits}</p>}
      {LINK_WORDS[link] === null ? null : <p class="status-detail">{LINK_WORDS[link]}</p>}
    </div>
  );
}
