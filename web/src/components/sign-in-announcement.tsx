// Announces to screen readers that the session's link, code or prompt has come: the focus may be anywhere, and nothing else says so.

import type { SessionView } from "../api";

function announcement(session: SessionView): string {
  const { phase, sentence, actions } = session.for_person;
  if (phase !== "your_turn") return "";
  const { prompt, device_code } = session.sign_in;
  const url = actions.includes("open_link") ? session.sign_in.url : null;
  if (prompt !== null) return `${session.provider_name} asks: ${prompt.label}.`;
  if (device_code !== null) return url === null ? "Your code is here." : "Your code and the sign-in link are here.";
  return url === null ? sentence : "The sign-in link is here.";
}

export function SignInAnnouncement({ session }: { session: SessionView }) {
  return (
    <p class="visually-hidden" role="status" data-announcement>
      {announcement(session)}
    </p>
  );
}
