// What the user does next: the provider's instruction, the device code, the sign-in address, the tool's prompt, other methods.

import { useState } from "preact/hooks";
import { api, toProblem, type PasteResult, type PersonAction, type Problem, type SessionView } from "../api";
import { texts } from "../texts";
import { CopyButton } from "./copy-button";
import { Countdown } from "./countdown";
import { FailureActions, StartingTool } from "./failure-actions";
import { Methods } from "./methods";
import { PasteBox } from "./paste-box";
import { ProblemNote } from "./problem-note";
import { fitsQrCode, QrCode } from "./qr-code";

/** Parses an address for a link. The text comes from the machine and is untrusted: only http and https are accepted. */
function safeAddress(url: string | null): URL | null {
  if (url === null) return null;
  try {
    const parsed = new URL(url);
    return parsed.protocol === "https:" || parsed.protocol === "http:" ? parsed : null;
  } catch {
    return null;
  }
}

function DeviceCode({ session }: { session: SessionView }) {
  const code = session.sign_in.device_code;
  if (code === null) return null;
  return (
    <div class="device-code" data-device-code={code}>
      <span class="label">{texts.your_code}</span>
      <div class="row">
        <output class="code" aria-label={texts.your_code}>
          {code}
        </output>
        <CopyButton text={code} name={texts.copy_code} />
      </div>
      <Countdown until={session.sign_in.device_code_until} prefix={texts.valid_for} />
    </div>
  );
}

/** The machine wants to open a page that is not the provider's. The server withholds its address. */
function UnexpectedAddress({ session }: { session: SessionView }) {
  const unexpected = session.sign_in.unexpected_address;
  if (unexpected === null) return null;
  return (
    <div class="note warn" role="alert" data-notice="unexpected-address">
      <p>
        <strong>{texts.warning}</strong> {unexpected.sentence}
      </p>
    </div>
  );
}

/** Opens the address for the machine's browser there; without one, the address for the user's browser. */
function OpenInMachine({ session, url }: { session: SessionView; url: URL }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [message, setMessage] = useState("");
  const open = () => {
    setProblem(null);
    api.openUrl(session.id, (safeAddress(session.sign_in.browser_url) ?? url).href).then(
      () => setMessage(texts.opened_in_desktop),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  return (
    <>
      <button type="button" onClick={open}>
        {texts.use_desktop_instead}
      </button>
      <span role="status" class="muted">
        {message}
      </span>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </>
  );
}

function SignInAddress({ session, url, is_primary }: { session: SessionView; url: URL; is_primary: boolean }) {
  const [qr_shown, setQrShown] = useState(false);
  return (
    <div class="sign-in-address">
      <span class="label">{texts.sign_in_page}</span>
      <p class="url" title={url.href}>
        {url.host}
        <span class="muted">{url.pathname === "/" ? "" : url.pathname}</span>
      </p>
      <div class="row">
        <a class={is_primary ? "button primary" : "button"} href={url.href} target="_blank" rel="noopener noreferrer">
          {texts.sign_in_at(url.host)}
          <span aria-hidden="true">↗</span>
          <span class="visually-hidden">{texts.in_new_tab}</span>
        </a>
        <CopyButton text={url.href} name={texts.copy_address} />
        {fitsQrCode(url.href) ? (
          <button type="button" aria-expanded={qr_shown} aria-controls="sign-in-qr" onClick={() => setQrShown(!qr_shown)}>
            {texts.on_your_phone}
          </button>
        ) : null}
        {session.lanes.includes("desktop") && session.machine === null ? <OpenInMachine session={session} url={url} /> : null}
      </div>
      <div id="sign-in-qr" hidden={!qr_shown}>
        {qr_shown ? (
          <>
            <QrCode text={url.href} name={texts.copy_address} />
            <p class="hint">{texts.scan}</p>
          </>
        ) : null}
      </div>
    </div>
  );
}

/** The message after a paste. */
function pasteMessage(result: PasteResult, tool: string): string {
  switch (result.interpreted_as) {
    case "callback":
      return result.status < 400
        ? "Address accepted."
        : `${tool} answered the address with HTTP status ${result.status}. The terminal has the details.`;
    case "stdin":
      return `${tool} is being started with it.`;
    default:
      return `Sent to ${tool}.`;
  }
}

/**
 * Whether the sign-in at this address redirects to a loopback address. The tool listens there inside the machine, so that the user's
 * own browser shows an error page.
 */
function redirectsToLoopback(address: string | null): boolean {
  const redirect = safeAddress(safeAddress(address)?.searchParams.get("redirect_uri") ?? null);
  return redirect !== null && ["localhost", "127.0.0.1", "[::1]"].includes(redirect.hostname);
}

const CALLBACK_HINT =
  "If your browser ends on a page that does not load, copy its whole address (it starts with http://localhost or http://127.0.0.1) and paste it here.";
const PROMPT_HINT = "It is typed at the tool's prompt, with Enter.";

/** The input for the tool's prompt, or for the code or callback address with which a sign-in in the user's browser may end. */
function PasteForm({ session }: { session: SessionView }) {
  const { prompt, url, browser_url, device_code } = session.sign_in;
  const send = (text: string) => api.paste(session.id, text).then((result) => pasteMessage(result, session.provider_name));
  const loopback = redirectsToLoopback(url) || redirectsToLoopback(browser_url);
  if (prompt !== null) {
    const hints = [prompt.expected_format, loopback && !prompt.secret ? CALLBACK_HINT : null].filter((hint) => hint !== null);
    return (
      <div class="paste-form" data-prompt={prompt.id}>
        {prompt.rejection === null ? null : (
          <p class="rejected" role="alert">
            That was not accepted. {session.provider_name} answered: “{prompt.rejection}”
          </p>
        )}
        <PasteBox
          key={`${prompt.id} ${prompt.rejection ?? ""}`}
          id="paste-code"
          label={prompt.label}
          hint={hints.length === 0 ? PROMPT_HINT : hints.join(" ")}
          button={prompt.secret ? "Send the key" : "Send"}
          secret={prompt.secret}
          send={send}
        />
      </div>
    );
  }
  // No rule recognizes a prompt, but the tool may still wait for a code from the user's browser.
  const may_need_code = session.lanes.includes("link") && device_code === null && url !== null;
  if (!may_need_code && !loopback) return null;
  return (
    <PasteBox
      id="paste-code"
      label="Did the sign-in page show a code, or end on a page that does not load?"
      hint={loopback ? CALLBACK_HINT : PROMPT_HINT}
      button="Send"
      send={send}
    />
  );
}

/** The tool's own text about its failure: folded, unless the tool asks again. */
function ToolFailure({ session, open }: { session: SessionView; open: boolean }) {
  const { failed } = session.sign_in;
  if (failed === null) return null;
  return open ? (
    <p class="note" role="alert" data-notice="tool-failed">
      {texts.not_accepted(session.provider_name)} “{failed}”
    </p>
  ) : (
    <details class="tool-failure" data-notice="tool-failed">
      <summary>{texts.details}</summary>
      <p>
        {session.provider_name}: “{failed}”
      </p>
    </details>
  );
}

/** Shows the tab of this view of the machine. */
function showView(name: "desktop" | "terminal") {
  const tab = document.getElementById(`tab-${name}`);
  tab?.click();
  tab?.focus({ preventScroll: true });
  tab?.scrollIntoView({ block: "start" });
}

function ViewButton({ action }: { action: PersonAction }) {
  if (action !== "use_desktop" && action !== "use_terminal") return null;
  const view = action === "use_desktop" ? "desktop" : "terminal";
  return (
    <button type="button" class="primary" data-action={action} onClick={() => showView(view)}>
      {view === "desktop" ? texts.open_desktop : texts.open_terminal}
    </button>
  );
}

function YourTurn({ session }: { session: SessionView }) {
  const { actions } = session.for_person;
  const url = actions.includes("open_link") ? safeAddress(session.sign_in.url) : null;
  const asks = session.machine === null && (session.sign_in.prompt !== null || url !== null);
  return (
    <>
      <ToolFailure session={session} open />
      <DeviceCode session={session} />
      {asks || actions[0] === undefined ? null : <ViewButton action={actions[0]} />}
      {url === null ? null : <SignInAddress session={session} url={url} is_primary={actions[0] === "open_link"} />}
      {asks ? <PasteForm session={session} /> : null}
      {session.machine === null ? <Methods session={session} /> : null}
    </>
  );
}

export function NextAction({ session }: { session: SessionView }) {
  const { phase, situation, sentence } = session.for_person;
  const is_your_turn = phase === "your_turn";
  return (
    <section class="next-action" aria-labelledby="next-action" data-situation={situation}>
      <h2 id="next-action" class={is_your_turn ? undefined : "visually-hidden"}>
        {texts.next_action_title}
      </h2>
      {sentence === "" ? null : <p class="for-person">{sentence}</p>}
      {situation === "tool_starting" ? <StartingTool session={session} /> : null}
      <UnexpectedAddress session={session} />
      {is_your_turn ? <YourTurn session={session} /> : null}
      {phase === "needs_attention" || phase === "failed" ? (
        <>
          <FailureActions session={session} />
          <ToolFailure session={session} open={false} />
        </>
      ) : null}
      {session.credential_use === null ? (
        <p class="muted policy">
          {session.policy_sentence}
          {session.return_host === null ? null : ` ${texts.you_return_to(session.return_host)}`}
        </p>
      ) : null}
    </section>
  );
}
