// The session's situation in one line, announced to screen readers. While the server does not answer, the page knows nothing: the lamp is grey.

import type { SessionView } from "../api";
import type { StreamStatus } from "../session-stream";
import { texts } from "../texts";

/** What the session waits for; `null` if it does not wait. */
export function pendingText(session: SessionView | null): string | null {
  return session !== null && session.for_person.phase === "working" ? session.for_person.title : null;
}

export function StatusLine({ session, stream_status }: { session: SessionView; stream_status: StreamStatus }) {
  const is_lost = stream_status === "lost";
  const phase = is_lost ? "working" : session.for_person.phase;
  return (
    <div class={`status ${phase}`} role="status" aria-live="polite" data-phase={phase} data-situation={session.for_person.situation}>
      <p class="status-title">
        <span class="status-light" aria-hidden="true" />
        {is_lost ? texts.connection_lost : session.for_person.title}
      </p>
      {session.machine === null ? null : <p class="status-detail">{texts.on_computer(session.machine)}</p>}
      {stream_status === "held_back" ? (
        <p class="status-detail" data-fault="proxy_buffers">
          {texts.held_back_updates}
        </p>
      ) : null}
      {stream_status === "polling" ? <p class="status-detail">{texts.delayed_updates}</p> : null}
    </div>
  );
}
