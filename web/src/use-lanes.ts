// Which tab of a session is open, and the code and connections of the remote browser and of the terminal, which start with their tab.

import { useEffect, useState } from "preact/hooks";
import { api, type SessionView } from "./api";
import type { DesktopLane } from "./components/desktop-lane";
import type { TerminalLane } from "./components/terminal-lane";
import type { Desktop } from "./desktop";
import { preferredTab, rememberedTab, rememberTab, tabsOf, type LaneTab } from "./lanes";
import { Repeater } from "./repeater";
import type { Terminal } from "./terminal";

export interface OpenTab {
  tab: LaneTab;
  /** Whether the keyboard continues in what the tab shows: after a click on it, not when the arrow keys pass it. */
  takes_focus: boolean;
}

export interface Lanes {
  tabs: readonly LaneTab[];
  open: OpenTab;
  select: (tab: LaneTab, takes_focus: boolean) => void;
}

/** A person's choice belongs to a method: another method opens with the tab that it prefers. */
interface Choice extends OpenTab {
  /** `null`: of the page before it was reloaded, whose method is that of the first state that arrives. */
  method: string | null;
}

/** `null` until the session is known. */
export function useLanes(session: SessionView | null, view_only: boolean): Lanes | null {
  const [choice, setChoice] = useState<Choice | null>(() => {
    const tab = rememberedTab();
    return tab === null ? null : { tab, takes_focus: false, method: null };
  });
  const method = session?.method;
  useEffect(() => {
    if (method === undefined || choice === null || choice.method === method) return;
    setChoice(choice.method === null ? { ...choice, method } : null);
    if (choice.method !== null) rememberTab(null);
  }, [method, choice]);
  if (session === null) return null;
  const tabs = tabsOf(session, view_only);
  const is_usable = choice !== null && (choice.method ?? session.method) === session.method && tabs.includes(choice.tab);
  return {
    tabs,
    open: is_usable ? choice : { tab: preferredTab(session, tabs), takes_focus: false },
    select: (tab, takes_focus) => {
      setChoice({ tab, takes_focus, method: session.method });
      rememberTab(tab);
    },
  };
}

/** Whether this tab was opened since it exists, and exists. */
function useWasOpened(lanes: Lanes | null, tab: LaneTab, may_connect: boolean): boolean {
  const [was_opened, setWasOpened] = useState(false);
  const exists = may_connect && lanes !== null && lanes.tabs.includes(tab);
  const is_open = exists && lanes.open.tab === tab;
  useEffect(() => {
    if (is_open) setWasOpened(true);
    else if (!exists) setWasOpened(false);
  }, [is_open, exists]);
  return is_open || (exists && was_opened);
}

/** Loads a part of the page while it is wanted; `null` until it has arrived. `stop` ends the part. */
function useLoaded<T>(is_wanted: boolean, load: () => Promise<T>, stop: (part: T) => void): T | null {
  const [part, setPart] = useState<T | null>(null);
  useEffect(() => {
    if (!is_wanted) return undefined;
    let loaded: T | null = null;
    let is_stopped = false;
    const loads = new Repeater(async () => {
      const next = await load();
      if (is_stopped) stop(next);
      else setPart((loaded = next));
      return null;
    });
    loads.start();
    return () => {
      is_stopped = true;
      loads.stop();
      setPart(null);
      if (loaded !== null) stop(loaded);
    };
  }, [is_wanted]);
  return part;
}

export interface DesktopPart {
  desktop: Desktop;
  Lane: typeof DesktopLane;
}

export interface TerminalPart {
  terminal: Terminal;
  Lane: typeof TerminalLane;
}

/** The ticket is requested while the code is loaded: the first picture comes one round trip earlier. */
async function loadDesktop(id: string, view_only: boolean): Promise<DesktopPart> {
  const ticket = api.createTicket(id, view_only ? { purpose: "desktop", view_only } : { purpose: "desktop" });
  const novnc = import("@novnc/novnc");
  // Each error is that of the connection, which tries again.
  for (const started of [ticket, novnc]) started.catch(() => undefined);
  const { createDesktop, DesktopLane } = await import("./components/desktop-lane");
  const desktop = createDesktop(id, view_only);
  desktop.start(ticket);
  return { desktop, Lane: DesktopLane };
}

async function loadTerminal(id: string): Promise<TerminalPart> {
  const { createTerminal, TerminalLane } = await import("./components/terminal-lane");
  return { terminal: createTerminal(id), Lane: TerminalLane };
}

/** The remote browser. Once its tab was opened it stays connected while another one is shown, and keeps its picture. */
export function useDesktop(id: string, lanes: Lanes | null, view_only: boolean, may_connect: boolean): DesktopPart | null {
  const is_wanted = useWasOpened(lanes, "desktop", may_connect);
  return useLoaded(is_wanted, () => loadDesktop(id, view_only), ({ desktop }) => desktop.stop());
}

/** The terminal, which connects while its tab is shown. */
export function useTerminal(id: string, lanes: Lanes | null, may_connect: boolean): TerminalPart | null {
  const is_wanted = useWasOpened(lanes, "terminal", may_connect);
  return useLoaded(is_wanted, () => loadTerminal(id), ({ terminal }) => terminal.stop());
}
