// /api/auth/session/{id}/novnc: only the desktop, for embedding in another page or window.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api } from "./api";
import { ConnectionOverlay } from "./components/connection-overlay";
import { DesktopArea } from "./components/desktop-area";
import { LoginConfirmation } from "./components/login-confirmation";
import { Desktop } from "./desktop";
import { startHeartbeat } from "./heartbeat";
import { extractLoginToken } from "./login-token";
import { loadPageLanguage } from "./language";
import { isViewOnly, sessionPath } from "./pages";
import { texts } from "./texts";

function DesktopPage({ id, view_only }: { id: string; view_only: boolean }) {
  const [desktop] = useState(() => new Desktop(id, view_only));
  useEffect(() => {
    desktop.start();
    // A view-only page must not keep the session alive.
    const stopHeartbeat = view_only ? () => undefined : startHeartbeat(id);
    return () => {
      stopHeartbeat();
      desktop.stop();
    };
  }, [desktop, id, view_only]);
  return (
    <main class="desktop-page" data-page="desktop">
      <h1 class="visually-hidden">{texts.desktop_title}</h1>
      <DesktopArea
        desktop={desktop}
        type_box_open={false}
        after={
          <>
            {view_only ? <span class="desktop-page-note">{texts.view_only}</span> : null}
            <a id="open-session-page" class="desktop-page-link" href={sessionPath(id, { view_only })}>
              {texts.remote.open_full_page}
            </a>
          </>
        }
      >
        <ConnectionOverlay socket={desktop.socket} live={desktop.live} name="desktop" pending={null} />
      </DesktopArea>
    </main>
  );
}

const root = document.getElementById("app");
await loadPageLanguage();
const id = /^\/api\/auth\/session\/([^/]+)\/novnc\/?$/.exec(window.location.pathname)?.[1];
if (root !== null && id !== undefined) {
  const login_token = extractLoginToken();
  const page = <DesktopPage id={decodeURIComponent(id)} view_only={isViewOnly()} />;
  if (login_token === null) {
    render(page, root);
  } else {
    const logIn = () => {
      // After a failed login, a cookie from an earlier login may still be valid.
      void api
        .login(login_token)
        .catch(() => undefined)
        .then(() => render(page, root));
    };
    render(<LoginConfirmation onConfirm={logIn} />, root);
  }
}
