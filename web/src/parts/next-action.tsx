// What the person does next: the provider's sentence, the code, the address.

import { useState } from "preact/hooks";
import { api, asProblem, type ProblemBody, type SessionView } from "../api";
import { Copy } from "./copy";
import { Countdown } from "./countdown";
import { PasteBox } from "./paste-box";
import { ProblemNote } from "./problem-note";
import { isReady } from "../words";

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

function Address({ session, url }: { session: SessionView; url: URL }) {
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [said, say] = useState("");
  const inMachine = () => {
    setProblem(null);
    api.openUrl(session.id, url.href).then(
      () => say("Opened in the machine: see the desktop."),
      (thrown: unknown) => setProblem(asProblem(thrown)),
    );
  };
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
        {session.lanes.includes("desktop") && session.machine === null ? (
          <button type="button" onClick={inMachine}>
            Open in the machine
          </button>
        ) : null}
      </div>
      <span role="status" class="quiet">
        {said}
      </span>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </div>
  );
}

export function NextAction({ session }: { session: SessionView }) {
  // Without a machine, a code or an address of before is worth nothing.
  const ready = isReady(session.status);
  const url = ready ? safeAddress(session.sign_in.url) : null;
  const takes_code = session.machine === null && session.lanes.includes("link") && session.sign_in.device_code === null && url !== null;
  return (
    <section class="next" aria-labelledby="next">
      <h2 id="next">What to do next</h2>
      <p>{session.next_action}</p>
      {ready ? <DeviceCode session={session} /> : null}
      {url === null ? null : <Address session={session} url={url} />}
      {takes_code ? (
        <PasteBox
          id="paste-code"
          label="Were you given a code?"
          hint="It is typed at the tool's prompt, with Enter."
          button="Send the code"
          send={(code) => api.code(session.id, code)}
        />
      ) : null}
    </section>
  );
}
