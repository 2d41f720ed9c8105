// Parts of a sign-in that several tabs show: the device code, warnings, and what the tool printed about its failure.

import type { SessionView } from "../api";
import { texts } from "../texts";
import { CopyButton } from "./copy-button";
import { Countdown } from "./countdown";

/** Parses an address for a link. The text comes from the machine and is untrusted: only http and https are accepted. */
export function safeAddress(url: string | null): URL | null {
  if (url === null) return null;
  try {
    const parsed = new URL(url);
    return parsed.protocol === "https:" || parsed.protocol === "http:" ? parsed : null;
  } catch {
    return null;
  }
}

const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"];

/** Whether the address leads to the computer that opens it (RFC 6761, 6.3), so that no other device reaches it. */
export function isThisComputer(url: URL): boolean {
  return LOOPBACK_HOSTS.includes(url.hostname) || url.hostname.endsWith(".localhost") || url.hostname.startsWith("127.");
}

/**
 * Whether the sign-in at this address redirects to a loopback address. The tool listens there inside the machine, so that the user's
 * own browser shows an error page.
 */
export function redirectsToLoopback(address: string | null): boolean {
  const redirect = safeAddress(safeAddress(address)?.searchParams.get("redirect_uri") ?? null);
  return redirect !== null && LOOPBACK_HOSTS.includes(redirect.hostname);
}

/** A sentence of the server, in which the page that makes keys of the demo is a link. */
export function Sentence({ text }: { text: string }) {
  const [before = "", path, after = ""] = text.split(/(\/demo\/key)(?![\w/])/);
  if (path === undefined) return <>{text}</>;
  return (
    <>
      {before}
      <a href={path} target="_blank" rel="noopener">
        {path}
      </a>
      {after}
    </>
  );
}

export function DeviceCode({ code, until }: { code: string; until: string | null }) {
  return (
    <div class="device-code row" data-device-code={code}>
      <output class="code" aria-label={texts.your_code}>
        {code}
      </output>
      <CopyButton text={code} name={texts.copy_code} label={texts.copy_code_button} />
      <Countdown until={until} prefix={texts.valid_for} />
    </div>
  );
}

/** The machine wants to open a page that is not the provider's. The server withholds its address. */
export function UnexpectedAddress({ session }: { session: SessionView }) {
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

/** The tool's own text about its failure: folded, unless the tool asks again. */
export function ToolFailure({ session, open }: { session: SessionView; open: boolean }) {
  const { failed, prompt } = session.sign_in;
  // The form of a prompt says itself what was not accepted.
  if (failed === null || (open && prompt !== null && prompt.rejection !== null)) return null;
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
