// The desktop with the controls below it; both fill the screen together.

import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Desktop } from "../desktop";
import type { Resolution } from "../desktop-resolution";
import { useStore } from "../store";
import { texts } from "../texts";
import { ClipboardPanel } from "./clipboard-panel";
import { FocusTrap } from "./focus-trap";
import { DesktopKeysBar } from "./keys-bar";
import { TypeBox } from "./type-box";

const TOOLS_ID = "desktop-tools";

interface DesktopAreaProps {
  desktop: Desktop;
  /** Whether the form for typing a text is open at first. */
  type_box_open: boolean;
  /** Shown after the controls. */
  after?: ComponentChildren;
  /** Covers the desktop. */
  children: ComponentChildren;
}

export function DesktopArea({ desktop, type_box_open, after, children }: DesktopAreaProps) {
  const area = useRef<HTMLDivElement>(null);
  return (
    <div class="desktop-area" ref={area}>
      <FocusTrap target={desktop} label={texts.desktop_title} exit_id={TOOLS_ID}>
        {children}
      </FocusTrap>
      <DesktopTools desktop={desktop} type_box_open={type_box_open} fill={() => void toggleFullScreen(area.current)}>
        {after}
      </DesktopTools>
    </div>
  );
}

/** A browser may refuse the full screen; then nothing changes. */
async function toggleFullScreen(area: HTMLElement | null): Promise<void> {
  await (document.fullscreenElement === null ? area?.requestFullscreen() : document.exitFullscreen())?.catch(() => undefined);
}

function useIsFullScreen(): boolean {
  const [is_full, setIsFull] = useState(false);
  useEffect(() => {
    const onChange = () => setIsFull(document.fullscreenElement !== null);
    document.addEventListener("fullscreenchange", onChange);
    return () => document.removeEventListener("fullscreenchange", onChange);
  }, []);
  return is_full;
}

type Panel = "type" | "clipboard" | "keys";

interface DesktopToolsProps {
  desktop: Desktop;
  type_box_open: boolean;
  /** Enters or leaves the full screen. */
  fill: () => void;
  children: ComponentChildren;
}

function DesktopTools({ desktop, type_box_open, fill, children }: DesktopToolsProps) {
  const is_full_screen = useIsFullScreen();
  const scale = useStore(desktop.zoom.scale);
  const resolution = useStore(desktop.resolution.chosen);
  const screen_ratio = useStore(desktop.resolution.screen_ratio);
  const [open, setOpen] = useState<Record<Panel, boolean>>(() => ({
    type: type_box_open,
    clipboard: false,
    keys: window.matchMedia("(any-pointer: coarse)").matches,
  }));
  const panelButton = (panel: Panel) => (
    <button
      type="button"
      class="small"
      aria-expanded={open[panel]}
      aria-controls={`${panel}-panel`}
      onClick={() => setOpen({ ...open, [panel]: !open[panel] })}
    >
      {texts.remote.panels[panel]}
    </button>
  );
  return (
    <div id={TOOLS_ID} class="desktop-tools">
      {desktop.view_only ? null : (
        <div id="keys-panel" hidden={!open.keys}>
          {open.keys ? <DesktopKeysBar desktop={desktop} /> : null}
        </div>
      )}
      <div class="row">
        {desktop.view_only ? null : (
          <>
            {panelButton("type")}
            {panelButton("clipboard")}
            {panelButton("keys")}
          </>
        )}
        <button type="button" class="small" disabled={resolution !== "own"} onClick={() => desktop.zoom.setScale(scale === null ? 1 : null)}>
          {scale === null ? "100 %" : texts.remote.fit}
        </button>
        {desktop.view_only ? null : (
          <>
            <ResolutionButton desktop={desktop} label={texts.remote.resize} off="own" on={["window", "screen"]} />
            {resolution !== "own" && screen_ratio > 1 ? (
              <ResolutionButton desktop={desktop} label={texts.screen_pixels} off="window" on={["screen"]} />
            ) : null}
          </>
        )}
        {document.fullscreenEnabled ? (
          <button type="button" class="small" onClick={fill}>
            {is_full_screen ? texts.remote.leave_full_screen : texts.remote.full_screen}
          </button>
        ) : null}
        {resolution === "screen" && screen_ratio > 1 ? <span class="muted">{texts.screen_pixels_detail}</span> : null}
        {desktop.view_only ? null : <CopiedMessage desktop={desktop} />}
        {children}
      </div>
      {desktop.view_only ? null : (
        <>
          <div id="type-panel" hidden={!open.type}>
            {open.type ? <TypeBox desktop={desktop} /> : null}
          </div>
          <div id="clipboard-panel" hidden={!open.clipboard}>
            {open.clipboard ? <ClipboardPanel desktop={desktop} /> : null}
          </div>
        </>
      )}
    </div>
  );
}

interface ResolutionButtonProps {
  desktop: Desktop;
  label: string;
  off: Resolution;
  /** The button is pressed at each of these; a click chooses the first one. */
  on: readonly [Resolution, ...Resolution[]];
}

function ResolutionButton({ desktop, label, off, on }: ResolutionButtonProps) {
  const live = useStore(desktop.live);
  const is_on = on.includes(useStore(desktop.resolution.chosen));
  return (
    <button type="button" class="small" aria-pressed={is_on} disabled={!live} onClick={() => desktop.setResolution(is_on ? off : on[0])}>
      {label}
    </button>
  );
}

function CopiedMessage({ desktop }: { desktop: Desktop }) {
  const copied = useStore(desktop.clipboard.copied);
  const message = copied?.is_copied === true ? texts.remote.copied_here : texts.remote.copied_only_there;
  return (
    <span role="status" class="muted">
      {copied === null ? "" : message}
    </span>
  );
}
