// The tabs of a session and what the open one shows (the tabs pattern of the ARIA Authoring Practices Guide).

import { useRef } from "preact/hooks";
import type { SessionView, TimelineEntry } from "../api";
import { sessionIn, type LaneTab } from "../lanes";
import { texts } from "../texts";
import type { DesktopPart, Lanes, TerminalPart } from "../use-lanes";
import { isLeaveKey } from "./focus-trap";
import { LaneGuide } from "./lane-guide";
import { OwnLane } from "./own-lane";
import { ViewOnlyNotice } from "./view-only-notice";

interface LanesViewProps {
  session: SessionView;
  timeline: readonly TimelineEntry[];
  lanes: Lanes;
  desktop: DesktopPart | null;
  terminal: TerminalPart | null;
  /** Whether the server does not answer. */
  is_lost: boolean;
  view_only: boolean;
  /** Whether the user of a view-only page may act in the session on another one. */
  can_control: boolean;
}

/** The tab that a key leads to. */
function tabAfterKey(tabs: readonly LaneTab[], tab: LaneTab, key: string): LaneTab | undefined {
  const at = tabs.indexOf(tab);
  switch (key) {
    case "ArrowLeft":
      return tabs.at(at - 1);
    case "ArrowRight":
      return tabs[(at + 1) % tabs.length];
    case "Home":
      return tabs[0];
    case "End":
      return tabs.at(-1);
    default:
      return undefined;
  }
}

export function LanesView(props: LanesViewProps) {
  const { session, lanes, desktop, terminal, is_lost, view_only } = props;
  const { tabs, open, select } = lanes;
  const tab_list = useRef<HTMLDivElement>(null);
  const focusTab = (tab: LaneTab) => tab_list.current?.querySelector<HTMLElement>(`#tab-${tab}`)?.focus();
  const onTabKeyDown = (event: KeyboardEvent) => {
    const next = tabAfterKey(tabs, open.tab, event.key);
    if (next === undefined) return;
    event.preventDefault();
    select(next, false);
    focusTab(next);
  };
  /** Leads from the controls below the picture back to the tabs. */
  const onKeyDown = (event: KeyboardEvent) => {
    if (!isLeaveKey(event)) return;
    event.preventDefault();
    focusTab(open.tab);
  };
  const may_use_desktop = tabs.includes("desktop") && session.for_person.actions.includes("use_desktop");
  const openDesktop = may_use_desktop ? () => select("desktop", false) : null;
  const openOwn = tabs.includes("own") ? () => select("own", false) : null;
  const openTerminal = tabs.includes("terminal") ? () => select("terminal", true) : null;
  const panel = (tab: LaneTab) => {
    const is_shown = open.tab === tab;
    if (tab === "own") {
      const own = { session, timeline: props.timeline, is_lost, openDesktop, openTerminal };
      return is_shown ? <OwnLane {...own} /> : null;
    }
    const lane =
      tab === "desktop"
        ? desktop && <desktop.Lane session={sessionIn(tab, session)} desktop={desktop.desktop} is_shown={is_shown} />
        : terminal && <terminal.Lane session={session} terminal={terminal.terminal} is_shown={is_shown} takes_focus={open.takes_focus} />;
    return (
      <>
        {!is_shown ? null : view_only ? (
          <ViewOnlyNotice session={session} can_control={props.can_control} />
        ) : (
          <LaneGuide session={sessionIn(tab, session)} tab={tab} is_lost={is_lost} openOwn={openOwn} />
        )}
        {lane ?? <div class="focus-trap-frame" aria-hidden="true" />}
      </>
    );
  };
  return (
    <section class="lanes" aria-label={texts.lanes_label} onKeyDown={onKeyDown}>
      <div class="tabs" role="tablist" aria-label={texts.lanes_label} ref={tab_list} onKeyDown={onTabKeyDown}>
        {tabs.map((tab) => (
          <button
            key={tab}
            type="button"
            role="tab"
            id={`tab-${tab}`}
            aria-selected={open.tab === tab}
            aria-controls={`panel-${tab}`}
            tabIndex={open.tab === tab ? 0 : -1}
            onClick={() => select(tab, true)}
          >
            {texts.lane_tabs[tab]}
          </button>
        ))}
        {open.tab === "own" ? null : <span class="tabs-hint">{texts.leave_keys_hint}</span>}
      </div>
      {tabs.map((tab) => (
        <div key={tab} id={`panel-${tab}`} class="lane-panel" role="tabpanel" aria-labelledby={`tab-${tab}`} hidden={open.tab !== tab}>
          {panel(tab)}
        </div>
      ))}
    </section>
  );
}
