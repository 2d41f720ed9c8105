// The tabs of a session's page: one for each place where its present method lets the person sign in. All belong to the same tool process.

import type { SessionView } from "./api";

/** `own`: the person's own browser, with a link or a code. */
export type LaneTab = "own" | "desktop" | "terminal";

const TAB_OF_LANE: Record<SessionView["lanes"][number], LaneTab> = {
  link: "own",
  device_code: "own",
  desktop: "desktop",
  terminal: "terminal",
};
const ORDER: readonly LaneTab[] = ["own", "desktop", "terminal"];
const QUERY_KEY = "lane";

/** The tabs in their order on the page; at least one. The server reaches only the desktop of an external machine, and shows only that to helpers. */
export function tabsOf(session: SessionView, view_only: boolean): readonly LaneTab[] {
  if (view_only || session.machine !== null) return ["desktop"];
  const wanted = new Set(session.lanes.map((lane) => TAB_OF_LANE[lane]));
  const tabs = ORDER.filter((tab) => wanted.has(tab));
  return tabs.length === 0 ? ["desktop"] : tabs;
}

/** The tab that is open at first: that of the method's preferred lane. */
export function preferredTab(session: SessionView, tabs: readonly LaneTab[]): LaneTab {
  const [lane] = session.lanes;
  const tab = lane === undefined ? undefined : TAB_OF_LANE[lane];
  return tab !== undefined && tabs.includes(tab) ? tab : (tabs[0] ?? "desktop");
}

/** The session as this tab shows it: in the remote browser, what keeps the person from acting there comes first. */
export function sessionIn(tab: LaneTab, session: SessionView): SessionView {
  const { for_person } = session;
  const { remote_browser } = for_person;
  if (tab !== "desktop" || remote_browser === null || for_person.phase !== "your_turn") return session;
  const { host, ...shown } = remote_browser;
  return { ...session, for_person: { ...for_person, ...shown, values: { ...for_person.values, host } } };
}

/** The tab that was chosen on this page before it was reloaded. */
export function rememberedTab(): LaneTab | null {
  const text = new URLSearchParams(window.location.search).get(QUERY_KEY);
  return ORDER.find((tab) => tab === text) ?? null;
}

/** Keeps the chosen tab in the page's address, so that it survives a reload. `null`: the method's preferred one. */
export function rememberTab(tab: LaneTab | null): void {
  const url = new URL(window.location.href);
  if (tab === null) url.searchParams.delete(QUERY_KEY);
  else url.searchParams.set(QUERY_KEY, tab);
  window.history.replaceState(window.history.state, "", url);
}
