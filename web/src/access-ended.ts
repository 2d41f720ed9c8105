// Access that was ended or has expired while a page was open: what happened and what to do, for the person at the page. The server's own
// sentences are about tokens and cookies, for programs.

import type { Problem } from "./api";

export interface AccessEnded {
  title: string;
  /** Why, and what continues. */
  text: string;
  remedy: string;
}

const REVOKED: AccessEnded = {
  title: "You were signed out",
  text: "Your access was ended: in this browser, in another one of yours, or by the people who run this page. The sign-in itself continues.",
  remedy: "Sign in again. If you came with a link, ask for a new one where you got it.",
};

const EXPIRED: AccessEnded = {
  title: "Your sign-in has expired",
  text: "Access ends after a while, and so does a link. The sign-in itself continues.",
  remedy: "Sign in again. If you came with a link, ask for a new one where you got it.",
};

const HELPER_ENDED: AccessEnded = {
  title: "You are not watching any more",
  text: "Your access to this session was ended, or you left it. The session itself continues.",
  remedy: "Ask the person who invited you for another link.",
};

/** The close codes of access that was ended or has expired. */
export type AccessEndCode = 4411 | 4412 | 4414;

/** Returns the explanation for the close code of a problem or a WebSocket; `null`: the code has another meaning. */
export function accessEnded(close_code: number): AccessEnded | null {
  switch (close_code) {
    case 4411:
      return REVOKED;
    case 4412:
      return EXPIRED;
    case 4414:
      return HELPER_ENDED;
    default:
      return null;
  }
}

const ENDS: Record<AccessEndCode, { code: string; ended: AccessEnded }> = {
  4411: { code: "caller_revoked", ended: REVOKED },
  4412: { code: "caller_expired", ended: EXPIRED },
  4414: { code: "helper_ended", ended: HELPER_ENDED },
};

/** The problem of a WebSocket with this close code, as the event stream reports it. */
export function accessEndedProblem(close_code: AccessEndCode): Problem {
  const { code, ended } = ENDS[close_code];
  return { code, sentence: ended.text, remedy: ended.remedy, for_person: `${ended.text} ${ended.remedy}`, close_code };
}
