// Announces to screen readers that the session's link, code or prompt has come: the focus may be anywhere, and nothing else says so.

import type { SessionView } from "../api";
import { texts } from "../texts";

function announcement(session: SessionView): string {
  const { phase, sentence, actions } = session.for_person;
  if (phase !== "your_turn") return "";
  const { prompt, device_code } = session.sign_in;
  const url = actions.includes("open_link") ? session.sign_in.url : null;
  if (prompt !== null) return texts.announced.prompt(session.provider_name, prompt.label);
  if (device_code !== null) return url === null ? texts.announced.code : texts.announced.code_and_link;
  return url === null ? sentence : texts.announced.link;
}

export function SignInAnnouncement({ session }: { session: SessionView }) {
  return (
    <p class="visually-hidden" role="status" data-announcement>
      {announcement(session)}
    </p>
  );
}
