// The session's status in one line, announced to screen readers.

import type { SessionView } from "../api";
import { stageLabel, statusLabel } from "../labels";
import type { StreamStatus } from "../session-stream";

/** What the session waits for; `null` if it does not wait. */
export function pendingText(session: SessionView | null): string | null {
  if (session === null) return null;
  if (session.queue_position === 1) return "You are next in the queue for a machine";
  if (session.queue_position !== null) return `Number ${session.queue_position} in the queue for a machine`;
  return session.stage === null ? null : `Now: ${stageLabel(session.stage)}`;
}

const STREAM_MESSAGES: Record<StreamStatus, string | null> = {
  connecting: null,
  live: null,
  polling: "Live updates do not arrive. This page asks every few seconds instead.",
  lost: "The server does not answer. Trying again…",
};

export function StatusLine({ session, stream_status }: { session: SessionView; stream_status: StreamStatus }) {
  const label = statusLabel(session.status);
  const pending = pendingText(session);
  const stream_message = STREAM_MESSAGES[stream_status];
  return (
    <div class={`status ${label.tone}`} role="status" aria-live="polite">
      <p class="status-title">
        <span class="status-light" aria-hidden="true" />
        {label.title}
      </p>
      {session.machine === null ? null : <p class="status-detail">On the external machine {session.machine}</p>}
      {pending === null ? null : <p class="status-detail">{pending}</p>}
      {stream_message === null ? null : <p class="status-detail">{stream_message}</p>}
    </div>
  );
}
