// The second way to give the login token of a link: a reverse proxy that signs people in by redirect loses what follows #. The pasted link
// is used as if it had been opened; it is sent nowhere but in the body of the login request.

import { api, ApiError, type Problem } from "../api";
import { partsOfLink } from "../login-token";
import { START_PATH } from "../pages";
import { texts } from "../texts";
import { PasteBox } from "./paste-box";

function refuse(code: string, for_person: string): ApiError {
  const problem: Problem = { code, sentence: for_person, remedy: "Paste the whole link.", for_person, close_code: 4401 };
  return new ApiError(problem, 400);
}

async function openLink(text: string): Promise<string> {
  const link = partsOfLink(text);
  if (link === null) throw refuse("no_login_token", texts.link_not_complete);
  if (!link.is_here) throw refuse("link_of_another_page", texts.link_of_another_page);
  await api.login(link.login_token);
  if (link.session !== null) await api.reportProxyFault(link.session, "link_without_fragment").catch(() => undefined);
  window.location.replace(link.session === null ? START_PATH : link.page);
  return texts.one_moment;
}

export function PasteLink() {
  return (
    <div class="note paste-link" data-problem="link_without_fragment">
      <p>{texts.link_lost_its_end}</p>
      <PasteBox id="paste-link" label={texts.your_link} hint={texts.your_link_hint} button={texts.go_on} send={openLink} />
    </div>
  );
}
