// What a closed WebSocket means for the page: the close codes of `crates/wire/src/problem.rs`, and nothing else decides.

/** What the page does next. */
export type Action =
  /** Connect again by itself, after a back-off. `soon`: the server is away or was started anew, so do not wait long. */
  | { do: "reconnect"; say: string; soon?: boolean }
  /** Connect again at once with a new ticket; the next refusal of the same kind stops. */
  | { do: "new_ticket"; say: string }
  /** The session is over: its state says how. */
  | { do: "over"; say: string }
  /** Say it and wait for the person. `again`: offering "Connect again" makes sense. */
  | { do: "stop"; say: string; again: boolean };

/** The server's reason is `code: sentence`; people get the sentence. */
export function sentenceOf(reason: string): string | null {
  const match = /^[a-z0-9_]+: (.+)$/s.exec(reason);
  const text = match?.[1] ?? reason;
  return text.trim() === "" ? null : text.trim();
}

/**
 * Decides by close code.
 * @param code of the close event; 1006 is the browser's own word for "the connection broke, no code came"
 * @param reason of the close event
 * @param ticket_renewed whether a new ticket was tried since the last connection that worked
 */
export function onClose(code: number, reason: string, ticket_renewed: boolean): Action {
  const told = sentenceOf(reason);
  switch (code) {
    case 4510:
      return { do: "reconnect", say: told ?? "The machine was replaced by a new one." };
    case 4409:
      return { do: "reconnect", say: told ?? "The machine is not ready yet." };
    case 4502:
      return { do: "reconnect", say: told ?? "The machine does not answer on its desktop." };
    case 4503:
      return { do: "reconnect", say: told ?? "The server cannot serve this at the moment.", soon: reason.startsWith("shutting_down") };
    case 4000:
      return { do: "reconnect", say: "The desktop did not answer as a desktop does." };
    case 4500:
    case 4504:
      return { do: "reconnect", say: told ?? "The server had a fault." };
    case 1000:
    case 1001:
    case 1005:
    case 1006:
    case 1011:
    case 1012:
    case 1013:
    case 1015:
      return { do: "reconnect", say: told ?? "The connection to the server was lost.", soon: true };
    case 4401:
      return ticket_renewed
        ? { do: "stop", say: told ?? "Nobody is signed in, or the link is too old.", again: true }
        : { do: "new_ticket", say: told ?? "The ticket was too old." };
    case 4410:
      return { do: "over", say: told ?? "The session has ended." };
    case 4403:
      return { do: "stop", say: told ?? "This belongs to another caller.", again: false };
    case 4404:
      return { do: "stop", say: told ?? "There is no such session.", again: false };
    case 4408:
      return { do: "stop", say: told ?? "The connection was idle for too long.", again: true };
    case 4429:
      return { do: "stop", say: told ?? "This session has reached its maximum number of viewers.", again: true };
    default:
      // A code this page does not know: say what the server said, and let the person decide.
      return { do: "stop", say: told ?? `The server closed the connection (code ${code}).`, again: true };
  }
}

/** The longest wait while the server is away, for so many tries: somebody sits before this page. */
const SOON_MS_MAX = 1_500;
const SOON_TRIES = 60;

/** The longest wait before try `attempt` of a reconnection. */
export function longest_ms(action: { soon?: boolean }, attempt: number): number {
  return action.soon === true && attempt < SOON_TRIES ? SOON_MS_MAX : 10_000;
}

/**
 * The wait before try `attempt` (0 is the first one after a loss), milliseconds: doubling, half of it by chance so that
 * many pages do not come back at the same moment.
 */
export function backoff_ms(attempt: number, chance: number, first_ms = 400, longest_ms = 10_000): number {
  const whole = Math.min(longest_ms, first_ms * 2 ** Math.min(attempt, 20));
  return Math.round(whole / 2 + (whole / 2) * chance);
}
