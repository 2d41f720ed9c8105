// Announces to screen readers that the session's link, code or prompt has come: the focus may be anywhere, and nothing else says so.

import type { SessionView } from "../api";
import { isReady } from "../labels";

function announcement(session: SessionView): string {
  if (!isReady(session.status)) return "";
  const { prompt, device_code, url } = session.sign_in;
  if (prompt !== null) return `${session.provider_name} asks: ${prompt.label}.`;
  if (device_code !== null) return url === null ? "Your code is here." : "Your code and the sign-in link are here.";
  return url === null ? session.next_action : "The sign-in link is here.";
}

export function SignInAnnouncement({ session }: { session: SessionView }) {
  return (
    <p class="visually-hidden" role="status" data-announcement>
      {announcement(session)}
    </p>
  );
}
