// Access that was ended or has expired while a page was open: what happened and what to do, for the person at the page. The server's own
// sentences are about tokens and cookies, for programs.

import type { Problem } from "./api";
import { texts } from "./texts";

export interface AccessEnded {
  title: string;
  /** Why, and what continues. */
  text: string;
  remedy: string;
}

/** The close codes of access that was ended or has expired. */
export type AccessEndCode = 4411 | 4412 | 4414;

/** Returns the explanation for the close code of a problem or a WebSocket; `null`: the code has another meaning. */
export function accessEnded(close_code: number): AccessEnded | null {
  switch (close_code) {
    case 4411:
      return texts.access_ended.revoked;
    case 4412:
      return texts.access_ended.expired;
    case 4414:
      return texts.access_ended.helper_ended;
    default:
      return null;
  }
}

const CODES: Record<AccessEndCode, keyof typeof texts.access_ended> = { 4411: "revoked", 4412: "expired", 4414: "helper_ended" };

/** Their codes in the API. */
const PROBLEM_CODES = { revoked: "caller_revoked", expired: "caller_expired", helper_ended: "helper_ended" } as const;

/** The problem of a WebSocket with this close code, as the event stream reports it. */
export function accessEndedProblem(close_code: AccessEndCode): Problem {
  const kind = CODES[close_code];
  const { text, remedy } = texts.access_ended[kind];
  return { code: PROBLEM_CODES[kind], sentence: text, remedy, for_person: `${text} ${remedy}`, close_code };
}
