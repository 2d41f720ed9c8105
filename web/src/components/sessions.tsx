// The caller's sessions, newest first.

import type { SessionView } from "../api";
import { hasEnded, statusLabel } from "../labels";
import { sessionPath } from "../pages";
import { DateTime } from "./date-time";

const SHOWN_MAX = 12;

export function Sessions({ sessions }: { sessions: SessionView[] }) {
  if (sessions.length === 0) return null;
  return (
    <section aria-labelledby="sessions">
      <h2 id="sessions">Sessions</h2>
      <ul class="list">
        {sessions.slice(0, SHOWN_MAX).map((session) => {
          const { provider } = session;
          const label = statusLabel(session.status);
          return (
            <li key={session.id} data-session={session.id}>
              <a class="list-main" href={sessionPath(session.id, { provider })}>
                {session.provider_name}
                {session.user_id === null ? null : <span class="muted"> for {session.user_id}</span>}
              </a>
              <span class={`badge ${label.tone}`}>{label.title}</span>
              <span class="list-text">
                {hasEnded(session.status) ? (
                  session.for_person.sentence
                ) : (
                  <>
                    Click the name to continue.{" "}
                    <a href={sessionPath(session.id, { provider, view_only: true })} data-action="watch">
                      Watch<span class="visually-hidden"> {session.provider_name} without control</span>
                    </a>
                  </>
                )}
              </span>
              <DateTime at={session.created_at} />
            </li>
          );
        })}
      </ul>
      {sessions.length > SHOWN_MAX ? <p class="muted">Only the newest {SHOWN_MAX} are shown.</p> : null}
    </section>
  );
}
