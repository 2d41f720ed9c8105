// The tab "Remote browser": the machine's desktop. While another tab is shown it stays connected.

import { useLayoutEffect } from "preact/hooks";
import type { SessionView } from "../api";
import { Desktop } from "../desktop";
import { useStore } from "../store";
import { ConnectionOverlay } from "./connection-overlay";
import { CredentialsForm } from "./credentials-form";
import { DesktopArea } from "./desktop-area";
import { pendingText } from "./status-line";

export function createDesktop(id: string, view_only: boolean): Desktop {
  return new Desktop(id, view_only);
}

interface DesktopLaneProps {
  session: SessionView;
  desktop: Desktop;
  is_shown: boolean;
}

export function DesktopLane({ session, desktop, is_shown }: DesktopLaneProps) {
  // Before the hidden desktop is measured.
  useLayoutEffect(() => desktop.setShown(is_shown), [desktop, is_shown]);
  const credential_request = useStore(desktop.credential_request);
  return (
    <DesktopArea desktop={desktop} type_box_open>
      {credential_request === null ? (
        <ConnectionOverlay socket={desktop.socket} live={desktop.live} name="desktop" pending={pendingText(session)} />
      ) : (
        <CredentialsForm desktop={desktop} request={credential_request} />
      )}
    </DesktopArea>
  );
}
