// Covers a desktop or a terminal while it is not live, and shows the state of its connection.

import { accessEnded } from "../access-ended";
import { START_PATH } from "../pages";
import type { TicketedSocket } from "../socket";
import { useStore, type Store } from "../store";
import { texts } from "../texts";

interface ConnectionOverlayProps {
  socket: TicketedSocket;
  live: Store<boolean>;
  name: "desktop" | "terminal";
  /** What the session waits for. The status line announces it. */
  pending: string | null;
}

export function ConnectionOverlay({ socket, live, name, pending }: ConnectionOverlayProps) {
  const state = useStore(socket.state);
  const is_live = useStore(live);
  if (state.status === "open" && is_live) return null;
  return (
    <div class="overlay" data-connection={state.status}>
      <div class="overlay-note" role="status">
        {state.status === "stopped" ? (
          <>
            <p>
              <strong>{state.message}</strong>
            </p>
            {state.can_retry ? (
              <button type="button" onClick={() => void socket.connect()}>
                {texts.connect_again}
              </button>
            ) : (
              <a class="button" href={START_PATH}>
                {texts.start_again}
              </a>
            )}
          </>
        ) : state.status === "access_ended" ? (
          <AccessEndedNote close_code={state.close_code} />
        ) : state.status === "ended" ? (
          <>
            <p>
              <strong>{state.message}</strong>
            </p>
            <a class="button" href={START_PATH}>
              {texts.start_again}
            </a>
          </>
        ) : (
          <>
            <span class="spinner" aria-hidden="true" />
            <p>
              <strong>
                {state.status === "waiting"
                  ? state.message
                  : state.status === "open"
                    ? texts.remote.waiting_for[name]
                    : texts.remote.connecting_to[name]}
              </strong>
              {state.status === "waiting" ? <small>{texts.reconnecting}</small> : null}
              {state.status !== "waiting" && pending !== null ? <small aria-hidden="true">{pending}</small> : null}
            </p>
          </>
        )}
      </div>
    </div>
  );
}

function AccessEndedNote({ close_code }: { close_code: number }) {
  const ended = accessEnded(close_code);
  return (
    <>
      <p>
        <strong>{ended?.title}</strong>
        <small>{ended?.text}</small>
      </p>
      <p>
        <small>{ended?.remedy}</small>
      </p>
      <a class="button" href={START_PATH}>
        {texts.sign_in}
      </a>
    </>
  );
}
