// The machine, as desktop and as terminal. Both stay connected when the other one is in front.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, type SessionView } from "../api";
import type { Desktop } from "../desktop";
import type { Terminal } from "../terminal";
import { Connection } from "./connection";
import { CredentialsForm } from "./credentials-form";
import { KeysBar } from "./keys-bar";
import { PasteBox } from "./paste-box";
import { Place } from "./focus-trap";
import { waitsFor } from "./status-line";
import { useStore } from "../store";

const TABS = ["desktop", "terminal"] as const;
type Tab = (typeof TABS)[number];
const TAB_WORDS: Record<Tab, string> = { desktop: "Desktop", terminal: "Terminal" };

interface StageProps {
  id: string;
  session: SessionView | null;
  desktop: Desktop;
  /** Made when its tab is opened the first time. */
  terminal: Terminal | null;
  openTerminal: () => void;
}

export function Stage({ id, session, desktop, terminal, openTerminal }: StageProps) {
  const [tab, setTab] = useState<Tab>("desktop");
  const tabs = useRef<HTMLDivElement>(null);
  // Of an external machine this server reaches the desktop and nothing else.
  const external = session !== null && session.machine !== null;
  const only_desktop = external || desktop.view_only;
  const views = only_desktop ? TABS.slice(0, 1) : TABS;
  const choose = (next: Tab) => {
    if (next === "terminal") openTerminal();
    setTab(next);
  };
  useEffect(() => {
    if (tab === "terminal") terminal?.focus();
  }, [tab, terminal]);
  const arrows = (event: KeyboardEvent) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tab === "desktop" && !only_desktop ? "terminal" : "desktop";
    choose(next);
    tabs.current?.querySelector<HTMLElement>(`#tab-${next}`)?.focus();
  };
  const waits = waitsFor(session);
  const asked = useStore(desktop.asked);
  return (
    <section class="stage" aria-label="The machine">
      <div class="tabs" role="tablist" aria-label="Views of the machine" ref={tabs} onKeyDown={arrows}>
        {views.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-selected={tab === name}
            aria-controls={`panel-${name}`}
            tabIndex={tab === name ? 0 : -1}
            onClick={() => choose(name)}
          >
            {TAB_WORDS[name]}
          </button>
        ))}
        <span class="tabs-hint">Shift+F6 brings the keyboard back here</span>
      </div>
      <div id="panel-desktop" role="tabpanel" aria-labelledby="tab-desktop" class="view" hidden={tab !== "desktop"}>
        <Place thing={desktop} label="Desktop of the machine" out="tab-desktop">
          {asked === null ? (
            <Connection socket={desktop.socket} shown={desktop.shown} what="desktop" waits_for={waits} />
          ) : (
            <CredentialsForm desktop={desktop} asked={asked} />
          )}
        </Place>
        {desktop.view_only ? null : <KeysBar desktop={desktop} />}
      </div>
      {only_desktop ? null : (
        <>
          <div id="panel-terminal" role="tabpanel" aria-labelledby="tab-terminal" class="view" hidden={tab !== "terminal"}>
            {terminal === null ? (
              <p class="quiet">Loading…</p>
            ) : (
              <Place thing={terminal} label="Terminal of the machine" out="tab-terminal">
                <Connection socket={terminal.socket} shown={terminal.shown} what="terminal" waits_for={waits} />
              </Place>
            )}
          </div>
          <details class="paste-details">
            <summary>Paste into the machine</summary>
            <PasteBox
              id="paste-text"
              label="Text"
              hint="One line. It is typed into the tool's terminal as it is, without Enter."
              button="Paste"
              send={(text) => api.type(id, text, false).then(() => undefined)}
            />
          </details>
        </>
      )}
    </section>
  );
}
