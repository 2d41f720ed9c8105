// /api/auth/session/{id}/novnc: the desktop and nothing else, for embedding in a window of one's own.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import "./styles/base.css";
import "./styles/components.css";
import { Desktop } from "./desktop";
import { startHeartbeat } from "./heartbeat";
import { Connection } from "./components/connection";
import { Place } from "./components/focus-trap";
import { isViewOnly } from "./pages";
import { enter, takePass } from "./login-token";

function Bare({ id, view_only }: { id: string; view_only: boolean }) {
  const [desktop] = useState(() => new Desktop(id, view_only));
  useEffect(() => {
    desktop.start();
    // Looking on is no use of the session.
    const end = view_only ? () => undefined : startHeartbeat(id);
    return () => {
      end();
      desktop.stop();
    };
  }, [desktop, id, view_only]);
  return (
    <main class="bare-main" data-page="desktop">
      <h1 class="off-screen">Desktop of the machine</h1>
      <Place thing={desktop} label="Desktop of the machine" out="leave">
        <Connection socket={desktop.socket} shown={desktop.shown} what="desktop" waits_for={null} />
      </Place>
      {view_only ? <p class="bare-note">View only</p> : null}
      <a
        id="leave"
        class="bare-leave"
        href={`/dashboard/remote-cli/auth?session=${encodeURIComponent(id)}${view_only ? "&view=1" : ""}`}
      >
        Open the whole page
      </a>
    </main>
  );
}

const root = document.getElementById("app");
const id = /^\/api\/auth\/session\/([^/]+)\/novnc\/?$/.exec(window.location.pathname)?.[1];
if (root !== null && id !== undefined) {
  const pass = takePass();
  const entered = pass === null ? Promise.resolve() : enter(pass).catch(() => undefined);
  const view_only = isViewOnly();
  void entered.then(() => render(<Bare id={decodeURIComponent(id)} view_only={view_only} />, root));
}
