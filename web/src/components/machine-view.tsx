// The machine as desktop and as terminal, in two tabs. The hidden desktop stays connected; the hidden terminal does not.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { api, type SessionView } from "../api";
import type { Desktop } from "../desktop";
import { useStore } from "../store";
import type { Terminal } from "../terminal";
import { ConnectionOverlay } from "./connection-overlay";
import { CredentialsForm } from "./credentials-form";
import { DesktopArea } from "./desktop-area";
import { FocusTrap, isLeaveKey } from "./focus-trap";
import { KeysBar } from "./keys-bar";
import { PasteBox } from "./paste-box";
import { pendingText } from "./status-line";

const TABS = ["desktop", "terminal"] as const;
type Tab = (typeof TABS)[number];
const TAB_LABELS: Record<Tab, string> = { desktop: "Desktop", terminal: "Terminal" };

interface MachineViewProps {
  id: string;
  session: SessionView | null;
  desktop: Desktop;
  /** `null` until its tab is opened for the first time. */
  terminal: Terminal | null;
  openTerminal: () => void;
}

export function MachineView({ id, session, desktop, terminal, openTerminal }: MachineViewProps) {
  const [tab, setTab] = useState<Tab>("desktop");
  const tab_list = useRef<HTMLDivElement>(null);
  // The server can reach only the desktop of an external machine.
  const external = session !== null && session.machine !== null;
  const desktop_only = external || desktop.view_only;
  const tabs = desktop_only ? TABS.slice(0, 1) : TABS;
  const selectTab = (next: Tab) => {
    if (next === "terminal") openTerminal();
    setTab(next);
  };
  // Before the hidden desktop is measured.
  useLayoutEffect(() => desktop.setShown(tab === "desktop"), [desktop, tab]);
  useEffect(() => {
    if (tab === "terminal") terminal?.show();
    else terminal?.hide();
  }, [tab, terminal]);
  const onTabKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tab === "desktop" && !desktop_only ? "terminal" : "desktop";
    selectTab(next);
    tab_list.current?.querySelector<HTMLElement>(`#tab-${next}`)?.focus();
  };
  /** Leads from the controls back to the tabs. */
  const onKeyDown = (event: KeyboardEvent) => {
    if (!isLeaveKey(event)) return;
    event.preventDefault();
    tab_list.current?.querySelector<HTMLElement>(`#tab-${tab}`)?.focus();
  };
  const pending = pendingText(session);
  const credential_request = useStore(desktop.credential_request);
  return (
    <section class="machine-view" aria-label="The machine" onKeyDown={onKeyDown}>
      <div class="tabs" role="tablist" aria-label="Views of the machine" ref={tab_list} onKeyDown={onTabKeyDown}>
        {tabs.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-selected={tab === name}
            aria-controls={`panel-${name}`}
            tabIndex={tab === name ? 0 : -1}
            onClick={() => selectTab(name)}
          >
            {TAB_LABELS[name]}
          </button>
        ))}
        <span class="tabs-hint">Shift+F6 moves the keyboard below the picture, again: to these tabs</span>
      </div>
      <div id="panel-desktop" role="tabpanel" aria-labelledby="tab-desktop" hidden={tab !== "desktop"}>
        <DesktopArea desktop={desktop} type_box_open>
          {credential_request === null ? (
            <ConnectionOverlay socket={desktop.socket} live={desktop.live} name="desktop" pending={pending} />
          ) : (
            <CredentialsForm desktop={desktop} request={credential_request} />
          )}
        </DesktopArea>
      </div>
      {desktop_only ? null : (
        <div id="panel-terminal" role="tabpanel" aria-labelledby="tab-terminal" hidden={tab !== "terminal"}>
          {terminal === null ? <p class="muted">Loading…</p> : <TerminalArea id={id} terminal={terminal} pending={pending} />}
        </div>
      )}
    </section>
  );
}

function TerminalArea({ id, terminal, pending }: { id: string; terminal: Terminal; pending: string | null }) {
  return (
    <>
      <FocusTrap target={terminal} label="Terminal of the machine" exit_id="terminal-tools">
        <ConnectionOverlay socket={terminal.socket} live={terminal.live} name="terminal" pending={pending} />
      </FocusTrap>
      <div id="terminal-tools" class="terminal-tools">
        <KeysBar target={terminal} name="the terminal" openKeyboard={() => terminal.focus()} />
        <PasteBox
          id="paste-text"
          label="Paste into the terminal"
          hint="One line. It goes to the tool's terminal, which shows it, without Enter."
          button="Paste"
          send={(text) => api.typeText(id, text, false).then(() => "Typed into the terminal.")}
        />
      </div>
    </>
  );
}
