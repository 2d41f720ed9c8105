// What the person does next: the provider's sentence, the code, the address, what the tool asks, other ways.

import { useState } from "preact/hooks";
import { api, asProblem, type Pasted, type ProblemBody, type SessionView } from "../api";
import { Copy } from "./copy";
import { Countdown } from "./countdown";
import { Methods } from "./methods";
import { PasteBox } from "./paste-box";
import { ProblemNote } from "./problem-note";
import { canBeQr, Qr } from "./qr";
import { isReady } from "../labels";

/** Only addresses a browser may safely be sent to become links: the text comes from the machine. */
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
    <div class="code-box" data-device-code={code}>
      <span class="label">Your code</span>
      <div class="row">
        <output class="code" aria-label="Your code">
          {code}
        </output>
        <Copy text={code} what="the code" />
      </div>
      <Countdown until={session.sign_in.device_code_until} before="valid for" />
    </div>
  );
}

/** Opens an address in the machine's browser: the one that is meant for it, where there is one. */
function InMachine({ session, url }: { session: SessionView; url: URL }) {
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [said, say] = useState("");
  const open = () => {
    setProblem(null);
    api.openUrl(session.id, (safeAddress(session.sign_in.browser_url) ?? url).href).then(
      () => say("Opened in the machine: see the desktop."),
      (thrown: unknown) => setProblem(asProblem(thrown)),
    );
  };
  return (
    <>
      <button type="button" onClick={open}>
        Open in the machine
      </button>
      <span role="status" class="quiet">
        {said}
      </span>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </>
  );
}

function Address({ session, url }: { session: SessionView; url: URL }) {
  const [qr, setQr] = useState(false);
  return (
    <div class="address">
      <span class="label">Sign-in page</span>
      <p class="url" title={url.href}>
        {url.host}
        <span class="quiet">{url.pathname === "/" ? "" : url.pathname}</span>
      </p>
      <div class="row">
        <a class="button primary" href={url.href} target="_blank" rel="noopener noreferrer">
          Open
          <span class="off-screen"> the sign-in page in a new tab</span>
        </a>
        <Copy text={url.href} what="the address of the sign-in page" />
        {canBeQr(url.href) ? (
          <button type="button" aria-expanded={qr} aria-controls="sign-in-qr" onClick={() => setQr(!qr)}>
            QR code
          </button>
        ) : null}
        {session.lanes.includes("desktop") && session.machine === null ? <InMachine session={session} url={url} /> : null}
      </div>
      <div id="sign-in-qr" hidden={!qr}>
        {qr ? (
          <>
            <Qr text={url.href} what="the address of the sign-in page" />
            <p class="hint">Point a phone's camera at it to sign in there.</p>
          </>
        ) : null}
      </div>
    </div>
  );
}

/** What the server says became of it, for people. */
function takenWords(pasted: Pasted, tool: string): string {
  switch (pasted.interpreted_as) {
    case "callback":
      return pasted.status !== undefined && pasted.status < 400
        ? `${tool} took the address.`
        : `${tool} answered ${pasted.status ?? "nothing"}: see the terminal.`;
    case "stdin":
      return `${tool} is being started with it.`;
    default:
      return `Typed at ${tool}'s prompt.`;
  }
}

/** Whether a browser that goes to this address ends at one of its own loopback, where nobody listens but in the machine. */
function endsAtLoopback(address: string | null): boolean {
  const redirect = safeAddress(safeAddress(address)?.searchParams.get("redirect_uri") ?? null);
  return redirect !== null && ["localhost", "127.0.0.1", "[::1]"].includes(redirect.hostname);
}

const CALLBACK_HINT = "If your browser ends at an address that does not open (http://localhost…), paste that whole address here.";

/** The box for what the person brings from their own browser: what the tool asks, or what its sign-in may end with. */
function Bring({ session }: { session: SessionView }) {
  const { prompt, url, browser_url, device_code } = session.sign_in;
  const send = (text: string) => api.paste(session.id, text).then((pasted) => takenWords(pasted, session.provider_name));
  const loopback = endsAtLoopback(url) || endsAtLoopback(browser_url);
  if (prompt !== null) {
    const hints = [prompt.hint, loopback && !prompt.secret ? CALLBACK_HINT : null].filter((hint) => hint !== null);
    return (
      <div class="bring" data-prompt={prompt.id}>
        {prompt.rejected === null ? null : (
          <p class="refused" role="alert">
            {session.provider_name} did not take it: {prompt.rejected}
          </p>
        )}
        <PasteBox
          key={`${prompt.id} ${prompt.rejected ?? ""}`}
          id="paste-code"
          label={prompt.label}
          hint={hints.length === 0 ? "It is typed at the tool's prompt, with Enter." : hints.join(" ")}
          button={prompt.secret ? "Send the key" : "Send"}
          secret={prompt.secret}
          send={send}
        />
      </div>
    );
  }
  // Nothing is asked that a rule knows; still, what a browser ended with may be what the tool waits for.
  const may_wait = session.lanes.includes("link") && device_code === null && url !== null;
  if (!may_wait && !loopback) return null;
  return (
    <PasteBox
      id="paste-code"
      label="Were you given a code, or did your browser not get on?"
      hint={loopback ? CALLBACK_HINT : "It is typed at the tool's prompt, with Enter."}
      button="Send"
      send={send}
    />
  );
}

export function NextAction({ session }: { session: SessionView }) {
  // Without a machine, a code or an address of before is worth nothing.
  const ready = isReady(session.status);
  const url = ready ? safeAddress(session.sign_in.url) : null;
  return (
    <section class="next" aria-labelledby="next">
      <h2 id="next">What to do next</h2>
      <p>{session.next_action}</p>
      {ready && session.sign_in.failed !== null ? (
        <div class="note" role="alert" data-notice="tool-failed">
          <p>
            <strong>{session.provider_name} says that it did not work.</strong> {session.sign_in.failed}
          </p>
          <p>The terminal shows what it asks now; Enter there starts it again if it has ended.</p>
        </div>
      ) : null}
      {ready ? <DeviceCode session={session} /> : null}
      {url === null ? null : <Address session={session} url={url} />}
      {ready && session.machine === null ? <Bring session={session} /> : null}
      {ready && session.machine === null ? <Methods session={session} /> : null}
      {session.credential_use === null ? <p class="quiet policy">{session.policy_sentence}</p> : null}
    </section>
  );
}
