// The session's page in a frame or a popup of another site (docs/embedding.md): where it is shown, and the messages to that site.

import type { SessionView } from "./api";
import { isEmbedded } from "./frames";
import { hasEnded } from "./labels";

/** A message to the site. `version` changes when a field changes its meaning. */
export interface EmbeddingMessage {
  type: "anteroom.ready" | "anteroom.status" | "anteroom.done";
  version: 1;
  session: string;
  /** As in `GET /api/auth/session/{id}`. */
  status: string;
  /** The code of the reason why the session ended; `null` if it completed or has not ended. */
  reason: string | null;
}

/** The window of the site: the parent of this frame, or the window that opened this popup. */
function siteWindow(): Window | null {
  return isEmbedded() ? window.parent : (window.opener as Window | null);
}

/** The origin of an http or https address; `null` for any other. */
function webOrigin(url: string): string | null {
  try {
    const { origin, protocol } = new URL(url);
    return protocol === "https:" || protocol === "http:" ? origin : null;
  } catch {
    return null;
  }
}

/**
 * The address to which a person returns: the session's `return_url` with `session` and `status` at the end of its query. The rest is not
 * encoded again, since it may be signed. `null` if the session has none, or one that is not an http or https address.
 */
export function returnAddress(session: SessionView): string | null {
  const given = session.return_url;
  if (given === null || webOrigin(given) === null) return null;
  const [, address = "", query, fragment = ""] = /^([^?#]*)(?:\?([^#]*))?(#.*)?$/s.exec(given) ?? [];
  const isOurs = (part: string) => /^(session|status)(=|$)/.test(part);
  const parts = query === undefined || query === "" ? [] : query.split("&").filter((part) => !isOurs(part));
  parts.push(`session=${encodeURIComponent(session.id)}`, `status=${encodeURIComponent(session.status)}`);
  return `${address}?${parts.join("&")}${fragment}`;
}

/** The messages that the change from `previous` to `session` sends. */
export function messagesOf(previous: SessionView | null, session: SessionView): EmbeddingMessage[] {
  const message = (type: EmbeddingMessage["type"]): EmbeddingMessage => ({
    type,
    version: 1,
    session: session.id,
    status: session.status,
    reason: session.reason?.code ?? null,
  });
  const messages = previous === null ? [message("anteroom.ready")] : [];
  if (previous?.status !== session.status) messages.push(message("anteroom.status"));
  if (hasEnded(session.status) && (previous === null || !hasEnded(previous.status))) messages.push(message("anteroom.done"));
  return messages;
}

/** Sends messages to the site, if the page is in its frame or popup. Only pages of the origin of the session's `return_url` receive them. */
export function postToSite(session: SessionView, messages: readonly EmbeddingMessage[]): void {
  const site = siteWindow();
  const origin = session.return_url === null ? null : webOrigin(session.return_url);
  if (site === null || origin === null) return;
  for (const message of messages) site.postMessage(message, origin);
}
