// The input for the tool's prompt, or for the code or callback address with which a sign-in in the user's browser may end.

import { api, type PasteResult, type PromptView, type SessionView } from "../api";
import { texts } from "../texts";
import { PasteBox } from "./paste-box";
import { redirectsToLoopback } from "./sign-in-parts";

/** The message after a paste. */
function pasteMessage(result: PasteResult, tool: string): string {
  switch (result.interpreted_as) {
    case "callback":
      return result.status < 400 ? texts.address_accepted : texts.address_not_taken(tool, result.status);
    case "terminal":
      return texts.typed_into_terminal;
    case "stdin":
      return texts.started_with_key(tool);
    case "setting":
      return texts.started_again(tool);
    default:
      return texts.sent_to(tool);
  }
}

/** Whether a sign-in in the user's browser may end on a page that does not load. */
export function mayEndAtLoopback({ sign_in }: SessionView): boolean {
  return redirectsToLoopback(sign_in.url) || redirectsToLoopback(sign_in.browser_url);
}

function send(session: SessionView): (text: string) => Promise<string> {
  return (text) => api.paste(session.id, text).then((result) => pasteMessage(result, session.provider_name));
}

export function PromptForm({ session, prompt }: { session: SessionView; prompt: PromptView }) {
  const hints = [prompt.expected_format, mayEndAtLoopback(session) && !prompt.secret ? texts.callback_hint : null];
  const known_hints = hints.filter((hint) => hint !== null);
  return (
    <div class="paste-form" data-prompt={prompt.id}>
      {prompt.rejection === null ? null : (
        <p class="rejected" role="alert">
          {texts.not_accepted(session.provider_name)} “{prompt.rejection}”
        </p>
      )}
      <PasteBox
        key={`${prompt.id} ${prompt.rejection ?? ""}`}
        id="paste-code"
        label={prompt.label}
        hint={known_hints.length === 0 ? texts.prompt_hint : known_hints.join(" ")}
        button={prompt.secret ? texts.send_key : texts.send}
        secret={prompt.secret}
        is_primary
        send={send(session)}
      />
    </div>
  );
}

/** For a tool that asks for nothing that a rule recognizes. */
export function AnswerForm({ session, label }: { session: SessionView; label: string }) {
  const hint = mayEndAtLoopback(session) ? texts.callback_hint : texts.prompt_hint;
  return (
    <div class="paste-form">
      <PasteBox id="paste-code" label={label} hint={hint} button={texts.send} is_primary send={send(session)} />
    </div>
  );
}
