// The way back to the site that started the session. After a success the page goes there by itself, unless the person stops it.

import { useEffect, useState } from "preact/hooks";
import type { SessionView } from "../api";
import { returnAddress } from "../embedding";
import { isEmbedded } from "../frames";
import { texts } from "../texts";

/** Long enough to read the result and to stop it. */
const RETURN_AFTER_S = 5;

interface ReturnLinkProps {
  session: SessionView;
  /** Whether the page showed the session before it ended: someone who opens the page of an old session stays here. */
  was_live: boolean;
}

/** Counts down to 0, once in a second; `null` if it is stopped. */
function useSecondsLeft(starts: boolean): [number | null, () => void] {
  const [left_s, setLeft] = useState(starts ? RETURN_AFTER_S : null);
  useEffect(() => {
    if (left_s === null || left_s === 0) return undefined;
    const timer = window.setTimeout(() => setLeft(left_s - 1), 1_000);
    return () => window.clearTimeout(timer);
  }, [left_s]);
  return [left_s, () => setLeft(null)];
}

export function ReturnLink({ session, was_live }: ReturnLinkProps) {
  const address = returnAddress(session);
  // In a frame, the site around it decides where to go: it has received the message that the session has ended.
  const goes_by_itself = address !== null && was_live && session.status === "completed" && !isEmbedded() && window.opener === null;
  const [left_s, stay] = useSecondsLeft(goes_by_itself);
  useEffect(() => {
    if (left_s === 0 && address !== null) window.location.assign(address);
  }, [left_s, address]);
  if (address === null) return null;
  const host = new URL(address).host;
  return (
    <>
      <a class="button primary" href={address} target={isEmbedded() ? "_top" : undefined} rel="noreferrer" data-action="return">
        {texts.go_back_to(host)}
      </a>
      {left_s === null ? null : (
        <button type="button" class="button" onClick={stay} data-action="stay">
          {texts.stay_here} <span aria-hidden="true">({left_s})</span>
          <span class="visually-hidden">{texts.goes_back_by_itself(host)}</span>
        </button>
      )}
    </>
  );
}
