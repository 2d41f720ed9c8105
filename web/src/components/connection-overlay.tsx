// What lies over a desktop or a terminal while it is not live: calm, and true.

import { PICK_PAGE } from "../pages";
import type { TicketedSocket } from "../socket";
import { useStore, type Store } from "../store";

interface ConnectionProps {
  socket: TicketedSocket;
  shown: Store<boolean>;
  /** "desktop" or "terminal". */
  what: string;
  /** What the session says it waits for. */
  waits_for: string | null;
}

export function Connection({ socket, shown, what, waits_for }: ConnectionProps) {
  const state = useStore(socket.state);
  const live = useStore(shown);
  if (state.is === "open" && live) return null;
  return (
    <div class="veil" data-connection={state.is}>
      <div class="veil-note" role="status">
        {state.is === "stopped" ? (
          <>
            <p>
              <strong>{state.say}</strong>
            </p>
            {state.again ? (
              <button type="button" onClick={() => void socket.connect()}>
                Connect again
              </button>
            ) : (
              <a class="button" href={PICK_PAGE}>
                Pick a tool
              </a>
            )}
          </>
        ) : state.is === "over" ? (
          <>
            <p>
              <strong>{state.say}</strong>
            </p>
            <a class="button" href={PICK_PAGE}>
              Start a new session
            </a>
          </>
        ) : (
          <>
            <span class="spinner" aria-hidden="true" />
            <p>
              <strong>
                {state.is === "waiting" ? state.say : state.is === "open" ? `Waiting for the ${what}` : `Connecting to the ${what}`}
              </strong>
              {state.is === "waiting" ? <small>Connecting again by itself…</small> : null}
              {state.is !== "waiting" && waits_for !== null ? <small>{waits_for}</small> : null}
            </p>
          </>
        )}
      </div>
    </div>
  );
}
