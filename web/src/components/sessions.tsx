// The caller's sessions, newest first.

import type { SessionView } from "../api";
import { sessionPage, watchPage } from "../pages";
import { isOver, statusWords } from "../labels";
import { When } from "./when";

const SHOWN_MAX = 12;

export function Sessions({ sessions }: { sessions: SessionView[] }) {
  if (sessions.length === 0) return null;
  return (
    <section aria-labelledby="sessions">
      <h2 id="sessions">Sessions</h2>
      <ul class="list">
        {sessions.slice(0, SHOWN_MAX).map((session) => {
          const words = statusWords(session.status);
          return (
            <li key={session.id} data-session={session.id}>
              <a class="list-main" href={sessionPage(session.id, session.provider)}>
                {session.provider_name}
                {session.user_id === null ? null : <span class="quiet"> for {session.user_id}</span>}
              </a>
              <span class={`badge ${words.tone}`}>{words.title}</span>
              <span class="list-text">
                {isOver(session.status) ? (
                  (session.reason?.sentence ?? "")
                ) : (
                  <>
                    Open: click to return to it.{" "}
                    <a href={watchPage(session.id, session.provider)} data-action="watch">
                      Watch<span class="off-screen"> {session.provider_name} without acting</span>
                    </a>
                  </>
                )}
              </span>
              <When at={session.created_at} />
            </li>
          );
        })}
      </ul>
      {sessions.length > SHOWN_MAX ? <p class="quiet">The newest {SHOWN_MAX} are shown.</p> : null}
    </section>
  );
}
