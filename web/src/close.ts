// Decides what the page does after a WebSocket has closed, by the close code (`docs/close_codes.md`).

import { accessEndedProblem, type AccessEndCode } from "./access-ended";
import { texts } from "./texts";

/** What the page does next. `message` is for the user. */
export type CloseAction =
  /** Reconnect after a back-off. `fast`: the server is away or restarting, so retry at short intervals. */
  | { kind: "reconnect"; message: string; fast?: boolean }
  /** Reconnect at once with a new ticket. The next close of the same kind stops. */
  | { kind: "new_ticket"; message: string }
  /** The caller was revoked or has expired: no attempt can succeed before another sign-in. */
  | { kind: "access_ended"; message: string; close_code: AccessEndCode }
  /** The session has ended; its state has the reason. */
  | { kind: "ended"; message: string }
  /** Do not reconnect. `can_retry`: offer the button "Connect again". */
  | { kind: "stop"; message: string; can_retry: boolean };

/** Close code of this page: the desktop rejected what the user entered; a new connection asks again. */
export const CLOSE_ASK_AGAIN = 4000;
/** Close code of this page: noVNC cannot show the desktop, and no attempt can. */
export const CLOSE_NOT_SHOWN = 4001;

/** Why the desktop of an external machine cannot be used. */
function desktopRefused(reason: string): string {
  if (reason.startsWith("external_security_unsupported")) return texts.closed.not_shown;
  return reason.startsWith("external_password_rejected") ? texts.closed.not_let_in : texts.closed.desktop_refuses;
}

/** In how many seconds another host takes over, as the server says; `null`: it does not say. */
export function nextHost_s(reason: string): number | null {
  const found = /\(in (\d{1,5}) s\)/.exec(reason);
  return found === null ? null : Number(found[1]);
}

/**
 * Returns the action for a close event.
 * @param code of the event; 1006: the connection broke without a close frame
 * @param reason of the event
 * @param ticket_renewed whether a new ticket was tried since the last connection that worked
 */
export function closeAction(code: number, reason: string, ticket_renewed: boolean): CloseAction {
  switch (code) {
    case 4510:
      return { kind: "reconnect", message: texts.closed.replaced };
    case 4409:
      return { kind: "reconnect", message: texts.closed.not_ready };
    case 4502:
      return { kind: "reconnect", message: texts.closed.no_answer };
    case 4503:
      return { kind: "reconnect", message: texts.closed.lost, fast: reason.startsWith("shutting_down") };
    case CLOSE_ASK_AGAIN:
      return { kind: "reconnect", message: texts.closed.no_answer };
    case CLOSE_NOT_SHOWN:
      return { kind: "stop", message: texts.closed.not_shown, can_retry: true };
    case 4511:
      if (reason.startsWith("host_unreachable")) {
        return { kind: "reconnect", message: texts.closed.host_away(nextHost_s(reason)), fast: true };
      }
      return { kind: "stop", message: desktopRefused(reason), can_retry: true };
    case 4500:
    case 4504:
      return { kind: "reconnect", message: texts.closed.fault };
    case 1000:
    case 1001:
    case 1005:
    case 1006:
    case 1011:
    case 1012:
    case 1013:
    case 1015:
      return { kind: "reconnect", message: texts.closed.lost, fast: true };
    case 4401:
      return ticket_renewed
        ? { kind: "stop", message: texts.closed.signed_out, can_retry: true }
        : { kind: "new_ticket", message: texts.closed.lost };
    case 4411:
    case 4412:
    case 4414:
      return { kind: "access_ended", message: accessEndedProblem(code).sentence, close_code: code };
    case 4410:
      return { kind: "ended", message: texts.closed.ended };
    case 4403:
      return { kind: "stop", message: texts.closed.of_another, can_retry: false };
    case 4404:
      return { kind: "stop", message: texts.closed.unknown, can_retry: false };
    case 4408:
      return { kind: "stop", message: texts.closed.idle, can_retry: true };
    case 4429:
      return {
        kind: "stop",
        message: reason.startsWith("viewer_replaced") ? texts.closed.viewer_replaced : texts.closed.too_many,
        can_retry: true,
      };
    default:
      return { kind: "stop", message: texts.closed.fault, can_retry: true };
  }
}

/** The back-off limit while the server is away: a user is waiting. */
const FAST_BACKOFF_MS_MAX = 1_500;
/** After this many fast attempts, the normal limit applies. */
const FAST_ATTEMPTS_MAX = 60;

/** The back-off limit of attempt `attempt`. */
export function maxBackoff_ms(action: { fast?: boolean }, attempt: number): number {
  return action.fast === true && attempt < FAST_ATTEMPTS_MAX ? FAST_BACKOFF_MS_MAX : 10_000;
}

/**
 * The back-off before attempt `attempt` (0: the first after a loss), in milliseconds. It doubles with each attempt; half of it is
 * random (`random` is 0 to 1), so that many pages do not reconnect at the same moment.
 */
export function backoff_ms(attempt: number, random: number, initial_ms = 400, max_ms = 10_000): number {
  const full = Math.min(max_ms, initial_ms * 2 ** Math.min(attempt, 20));
  return Math.round(full / 2 + (full / 2) * random);
}
