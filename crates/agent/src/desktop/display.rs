//! The agent as a client of a machine's display: probes the display server, finds windows and raises them.

use super::rfb;
use crate::{
    log,
    platform::{
        environment::{DISPLAY, ExecutionEnvironment, RunMode},
        readiness::Readiness,
    },
};
use anteroom_wire::agent::{Geometry, Stage};
use anyhow::{Context, anyhow};
use rustix::event::{Timespec, poll};
use std::time::Duration;
use x11rb::{
    connection::Connection,
    protocol::{
        Event,
        xproto::{
            AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt, EventMask, Keycode, Keysym,
            MapState, Window,
        },
    },
    rust_connection::RustConnection,
};

/// How often something that is not ready yet is probed.
const PROBE_EVERY_MS: u64 = 50;
const CALLS_MS_MAX: u64 = 10_000;
/// How long the window manager may take to raise a window.
const RAISE_MS_MAX: i64 = 5_000;
const RAISE_EVERY_MS: i64 = 20;
/// The most windows that are examined.
const WINDOWS_MAX: usize = 64;
/// Below are keys whose position alone makes Chromium act: reload, favourites, home page.
const FIRST_FREED_KEYCODE: Keycode = 182;
/// The keysyms `XF86…`.
const MULTIMEDIA_KEYSYMS: std::ops::RangeInclusive<Keysym> = 0x1008_0000..=0x1008_ffff;
const NO_SYMBOL: Keysym = 0;
/// The instance name of the desktop's terminal.
pub(super) const TERMINAL_NAME: &str = "anteroom-terminal";

/// Keeps the stage "display" up to date: probes until the RFB greeting arrives, and again after the stage was lost.
pub(crate) async fn track_display(environment: &ExecutionEnvironment, readiness: &Readiness) {
    let Some(socket) = &environment.rfb_socket else { return };
    loop {
        match rfb::probe(socket).await {
            Ok(()) => {
                if let Err(error) = with_display(free_multimedia_keys).await {
                    log::write_line(&format!("multimedia keys not freed: {error:#}"));
                }
                readiness.set_ready(Stage::Display);
                readiness.wait_lost(Stage::Display).await;
            }
            Err(error) => readiness.record_not_ready_yet(Stage::Display, &format!("no RFB greeting: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(PROBE_EVERY_MS)).await;
    }
}

/// Keeps the stage "window manager" up to date.
pub(crate) async fn track_window_manager(environment: &ExecutionEnvironment, readiness: &Readiness) {
    if !environment.is_machine() {
        return;
    }
    loop {
        readiness.wait_ready(Stage::Display).await;
        match with_display(has_window_manager).await {
            Ok(true) => {
                readiness.set_ready(Stage::WindowManager);
                readiness.wait_lost(Stage::WindowManager).await;
            }
            Ok(false) => readiness.record_not_ready_yet(Stage::WindowManager, "no window manager owns the display"),
            Err(error) => readiness.record_not_ready_yet(Stage::WindowManager, &format!("{error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(PROBE_EVERY_MS)).await;
    }
}

/// Waits until the desktop's terminal window is visible. Returns at once in process mode, which has no display.
pub(crate) async fn wait_terminal_window(environment: &ExecutionEnvironment, readiness: &Readiness) {
    if environment.is_machine() {
        wait_window(readiness, Stage::Terminal, |window| window.instance == TERMINAL_NAME).await;
    }
}

/// Waits until a window that matches is visible.
pub(crate) async fn wait_window(readiness: &Readiness, stage: Stage, matches: fn(&WindowInfo) -> bool) -> Window {
    loop {
        match with_display(move |display| Ok(visible_windows(display)?.into_iter().find(&matches))).await {
            Ok(Some(window)) => return window.id,
            Ok(None) => readiness.record_not_ready_yet(stage, "its window is not visible"),
            Err(error) => readiness.record_not_ready_yet(stage, &format!("{error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(PROBE_EVERY_MS * 2)).await;
    }
}

/// Raises the terminal's window.
pub(crate) async fn raise_terminal() -> anyhow::Result<()> {
    with_display(|display| activate_window(display, |window| window.instance == TERMINAL_NAME)).await
}

/// Raises the browser's window.
pub(crate) async fn raise_browser() -> anyhow::Result<()> {
    with_display(|display| activate_window(display, is_browser)).await
}

/// Waits until the user, or a program, raises the browser's window.
pub(crate) async fn wait_browser_in_front() -> anyhow::Result<()> {
    let wait = |display: &XDisplay| -> anyhow::Result<()> {
        let active = display.atom("_NET_ACTIVE_WINDOW")?;
        let subscription = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        display.connection.change_window_attributes(display.root, &subscription)?.check()?;
        loop {
            let front = display.windows(display.root, "_NET_ACTIVE_WINDOW")?;
            if visible_windows(display)?.iter().any(|window| front.contains(&window.id) && is_browser(window)) {
                return Ok(());
            }
            while !matches!(display.connection.wait_for_event()?, Event::PropertyNotify(change) if change.atom == active)
            {
            }
        }
    };
    // Without a time limit, since it waits for the user. It ends with the display at the latest.
    tokio::task::spawn_blocking(move || wait(&XDisplay::open()?)).await?
}

/// Whether the window belongs to Chromium.
pub(crate) fn is_browser(window: &WindowInfo) -> bool {
    window.class.to_ascii_lowercase().starts_with("chromium")
}

/// Changes the desktop's size.
pub(crate) async fn resize_display(environment: &ExecutionEnvironment, size: Geometry) {
    let (RunMode::Machine { width, height, .. }, Some(socket)) = (&environment.mode, &environment.rfb_socket) else {
        return;
    };
    if (size.width, size.height) == (*width, *height) {
        return;
    }
    if let Err(error) = rfb::resize(socket, size).await {
        log::write_line(&format!("desktop not resized: {error}"));
    }
}

/// A connection to the display.
struct XDisplay {
    connection: RustConnection,
    root: Window,
}

impl XDisplay {
    fn open() -> anyhow::Result<Self> {
        let (connection, screen) = x11rb::connect(Some(DISPLAY))?;
        let root = connection.setup().roots.get(screen).context("the display has no screen")?.root;
        Ok(Self { connection, root })
    }

    fn atom(&self, name: &str) -> anyhow::Result<u32> {
        Ok(self.connection.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }

    /// The value of a property that is a list of windows.
    fn windows(&self, of: Window, property: &str) -> anyhow::Result<Vec<Window>> {
        let (name, max) = (self.atom(property)?, u32::try_from(WINDOWS_MAX)?);
        let reply = self.connection.get_property(false, of, name, AtomEnum::WINDOW, 0, max)?.reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    }
}

/// Runs blocking X calls on a separate thread, within a time limit.
async fn with_display<T: Send + 'static>(
    calls: impl FnOnce(&XDisplay) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let running = tokio::task::spawn_blocking(move || calls(&XDisplay::open()?));
    tokio::time::timeout(Duration::from_millis(CALLS_MS_MAX), running)
        .await
        .context("the display does not answer")??
}

/// Whether a window manager runs: its `_NET_SUPPORTING_WM_CHECK` window (EWMH) names itself.
fn has_window_manager(display: &XDisplay) -> anyhow::Result<bool> {
    const PROPERTY: &str = "_NET_SUPPORTING_WM_CHECK";
    let Some(&window) = display.windows(display.root, PROPERTY)?.first() else { return Ok(false) };
    Ok(display.windows(window, PROPERTY)?.first() == Some(&window))
}

/// Frees multimedia keys. The display server makes a key for each character that viewers type and the layout lacks, and drops the character
/// when no key is free: its layout leaves 19.
fn free_multimedia_keys(display: &XDisplay) -> anyhow::Result<()> {
    let last = display.connection.setup().max_keycode;
    let count = last.saturating_sub(FIRST_FREED_KEYCODE).saturating_add(1);
    let mapping = display.connection.get_keyboard_mapping(FIRST_FREED_KEYCODE, count)?.reply()?;
    for keycode in multimedia_keycodes(usize::from(mapping.keysyms_per_keycode), &mapping.keysyms) {
        display.connection.change_keyboard_mapping(1, keycode, 1, &[NO_SYMBOL])?.check()?;
    }
    Ok(())
}

/// The keycodes from [`FIRST_FREED_KEYCODE`] on that have only multimedia keysyms.
fn multimedia_keycodes(keysyms_per_keycode: usize, keysyms: &[Keysym]) -> impl Iterator<Item = Keycode> {
    let is_multimedia = |keysyms: &[Keysym]| {
        let mut present = keysyms.iter().filter(|&&keysym| keysym != NO_SYMBOL).peekable();
        present.peek().is_some() && present.all(|keysym| MULTIMEDIA_KEYSYMS.contains(keysym))
    };
    let keys = keysyms.chunks_exact(keysyms_per_keycode.max(1));
    (FIRST_FREED_KEYCODE..=Keycode::MAX).zip(keys).filter(move |(_, keysyms)| is_multimedia(keysyms)).map(|key| key.0)
}

/// A visible window.
pub(crate) struct WindowInfo {
    id: Window,
    /// `WM_CLASS`, first part.
    instance: String,
    /// `WM_CLASS`, second part.
    class: String,
}

fn visible_windows(display: &XDisplay) -> anyhow::Result<Vec<WindowInfo>> {
    let mut visible = Vec::new();
    for id in display.windows(display.root, "_NET_CLIENT_LIST")? {
        // A window may be closed at any moment, which must not hide the others.
        let Ok(attributes) = display.connection.get_window_attributes(id)?.reply() else { continue };
        if attributes.map_state != MapState::VIEWABLE {
            continue;
        }
        let class = display.connection.get_property(false, id, AtomEnum::WM_CLASS, AtomEnum::STRING, 0, 256)?;
        let Ok(class) = class.reply() else { continue };
        let mut parts = class.value.split(|&b| b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (instance, class) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        visible.push(WindowInfo { id, instance, class });
    }
    Ok(visible)
}

/// Asks the window manager (EWMH `_NET_ACTIVE_WINDOW`, as a pager) to raise and focus a window that matches.
fn activate_window(display: &XDisplay, matches: fn(&WindowInfo) -> bool) -> anyhow::Result<()> {
    let window = visible_windows(display)?.into_iter().find(matches);
    let window = window.ok_or_else(|| anyhow!("the window to raise is not visible"))?.id;
    let message = ClientMessageEvent::new(32, window, display.atom("_NET_ACTIVE_WINDOW")?, [2, 0, 0, 0, 0]);
    let mask = EventMask::SUBSTRUCTURE_NOTIFY | EventMask::SUBSTRUCTURE_REDIRECT;
    display.connection.send_event(false, display.root, mask, message)?.check()?;
    for _ in 0..RAISE_MS_MAX / RAISE_EVERY_MS {
        if display.windows(display.root, "_NET_ACTIVE_WINDOW")?.contains(&window) {
            return Ok(());
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: RAISE_EVERY_MS * 1_000_000 };
        // The result is checked by the next read, also after an interrupted pause.
        let _ = poll(&mut [], Some(&pause));
    }
    Err(anyhow!("the window manager did not raise the window"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_with_nothing_but_multimedia_keysyms_are_freed() {
        let keysyms = [[0x1008_ff10, 0], [0, 0], [0x1008_ff11, 0xffbe], [0x1008_ff12, 0x1008_fe01], [0x61, 0x41]];
        assert_eq!(multimedia_keycodes(2, &keysyms.concat()).collect::<Vec<_>>(), [182, 185]);
        assert_eq!(multimedia_keycodes(0, &[]).count(), 0);
    }
}
