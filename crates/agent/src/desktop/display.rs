//! A machine's display: Xtigervnc, openbox and the xterm on it, and the agent as a client that looks and raises.

use crate::{
    agent::Agent,
    children, log,
    place::{DISPLAY, Kind, Place},
    rfb,
    supervisor::{Service, become_person, find_program},
    terminal,
};
use anteroom_wire::agent::{Geometry, Stage};
use anyhow::{Context, anyhow};
use rustix::event::{Timespec, poll};
use std::{process::Command, sync::Arc, time::Duration};
use x11rb::{
    connection::Connection,
    protocol::{
        Event,
        xproto::{AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt, EventMask, MapState, Window},
    },
    rust_connection::RustConnection,
};

/// Between two looks at something that is not up yet.
const LOOK_EVERY_MS: u64 = 50;
const LOOK_MS_MAX: u64 = 10_000;
/// How long the window manager may take to raise a window.
const RAISE_MS_MAX: i64 = 5_000;
const RAISE_EVERY_MS: i64 = 20;
/// Windows looked at.
const WINDOWS_MAX: usize = 64;
/// The instance name of the desktop's terminal.
const TERMINAL_NAME: &str = "anteroom-terminal";

/// The programs of the display.
pub(crate) fn services(agent: &Arc<Agent>) -> Vec<Service> {
    let Kind::Machine { width, height, .. } = agent.place.kind else { return Vec::new() };
    let on = agent.clone();
    let display = move || {
        let socket = on.place.rfb_socket.clone().unwrap_or_default();
        let mut command = person_command(&on.place, "Xtigervnc");
        command.arg(DISPLAY).arg("-rfbunixpath").arg(socket).args(["-rfbunixmode", "0600", "-rfbport", "-1"]);
        command.args(["-SecurityTypes", "None", "-AlwaysShared", "-nolisten", "tcp", "-ac", "-noreset"]);
        // Its only client is the agent: a few viewers that leave before they have joined must not lock out all others.
        command.arg("-UseBlacklist=0");
        command.args(["-depth", "24", "-geometry", &format!("{width}x{height}"), "-desktop", "Anteroom"]);
        command
    };
    let on = agent.clone();
    let manager = move || person_command(&on.place, "openbox");
    let on = agent.clone();
    let xterm = move || {
        let mut command = person_command(&on.place, "xterm");
        command.args(["-name", TERMINAL_NAME, "-T", "Terminal", "-maximized"]);
        // How it looks stands in the image's .Xdefaults.
        command.arg("-e").args(terminal::attach_argv(&on));
        command
    };
    let service = |name, stage, needs, command| Service { name, stage, needs, command };
    vec![
        service("Xtigervnc", Stage::Display, None, Box::new(display)),
        service("openbox", Stage::WindowManager, Some(Stage::Display), Box::new(manager)),
        service("xterm", Stage::Terminal, Some(Stage::WindowManager), Box::new(xterm)),
    ]
}

fn person_command(place: &Place, program: &str) -> Command {
    let mut command = children::command(find_program(program, &place.path));
    command.envs(place.environment(None)).current_dir(&place.home);
    become_person(&mut command, place);
    command
}

/// Keeps the stage "display" true: probes until the RFB greeting comes, and again after it was lost.
pub(crate) async fn probe_display(agent: Arc<Agent>) {
    let Some(socket) = agent.place.rfb_socket.clone() else { return };
    loop {
        match rfb::greet(&socket).await {
            Ok(()) => {
                agent.stages.ready(Stage::Display);
                agent.stages.lost(Stage::Display).await;
            }
            Err(error) => agent.stages.not_yet(Stage::Display, &format!("no RFB greeting: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// Keeps the stage "window manager" true.
pub(crate) async fn probe_window_manager(agent: Arc<Agent>) {
    if !agent.place.is_machine() {
        return;
    }
    loop {
        agent.stages.reached(Stage::Display).await;
        match on_display(manager_runs).await {
            Ok(true) => {
                agent.stages.ready(Stage::WindowManager);
                agent.stages.lost(Stage::WindowManager).await;
            }
            Ok(false) => agent.stages.not_yet(Stage::WindowManager, "no window manager owns the display"),
            Err(error) => agent.stages.not_yet(Stage::WindowManager, &format!("{error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// Waits until the desktop's terminal window is shown; a place without a display has none to wait for.
pub(crate) async fn terminal_shown(agent: &Agent) {
    if agent.place.is_machine() {
        window_shown(agent, Stage::Terminal, |window| window.instance == TERMINAL_NAME).await;
    }
}

/// Waits until a window that fits is on the display.
pub(crate) async fn window_shown(agent: &Agent, stage: Stage, fits: fn(&Shown) -> bool) -> Window {
    loop {
        match on_display(move |display| Ok(shown_windows(display)?.into_iter().find(&fits))).await {
            Ok(Some(window)) => return window.id,
            Ok(None) => agent.stages.not_yet(stage, "its window is not shown"),
            Err(error) => agent.stages.not_yet(stage, &format!("{error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS * 2)).await;
    }
}

/// Puts the terminal in front.
pub(crate) async fn raise_terminal() -> anyhow::Result<()> {
    on_display(|display| activate(display, |window| window.instance == TERMINAL_NAME)).await
}

/// Puts the browser in front.
pub(crate) async fn raise_browser() -> anyhow::Result<()> {
    on_display(|display| activate(display, is_browser)).await
}

/// Waits until the person (or a program) brings the browser to the front.
pub(crate) async fn browser_in_front() -> anyhow::Result<()> {
    let watch = |display: &Display| -> anyhow::Result<()> {
        let active = display.atom("_NET_ACTIVE_WINDOW")?;
        let ask = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        display.connection.change_window_attributes(display.root, &ask)?.check()?;
        loop {
            let front = display.windows(display.root, "_NET_ACTIVE_WINDOW")?;
            if shown_windows(display)?.iter().any(|window| front.contains(&window.id) && is_browser(window)) {
                return Ok(());
            }
            while !matches!(display.connection.wait_for_event()?, Event::PropertyNotify(change) if change.atom == active)
            {
            }
        }
    };
    // Without a limit: it waits for a person. It ends with the display at the latest.
    tokio::task::spawn_blocking(move || watch(&Display::open()?)).await?
}

/// Whether a window is Chromium's.
pub(crate) fn is_browser(window: &Shown) -> bool {
    window.class.to_ascii_lowercase().starts_with("chromium")
}

/// Gives the desktop another size.
pub(crate) async fn resize(agent: &Agent, size: Geometry) {
    let (Kind::Machine { width, height, .. }, Some(socket)) = (&agent.place.kind, &agent.place.rfb_socket) else {
        return;
    };
    if (size.width, size.height) == (*width, *height) {
        return;
    }
    if let Err(error) = rfb::resize(socket, size).await {
        log::line(&format!("the desktop keeps its size: {error}"));
    }
}

/// The display, as a client sees it.
struct Display {
    connection: RustConnection,
    root: Window,
}

impl Display {
    fn open() -> anyhow::Result<Self> {
        let (connection, screen) = x11rb::connect(Some(DISPLAY))?;
        let root = connection.setup().roots.get(screen).context("the display has no screen")?.root;
        Ok(Self { connection, root })
    }

    fn atom(&self, name: &str) -> anyhow::Result<u32> {
        Ok(self.connection.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }

    /// A property that is a list of windows.
    fn windows(&self, of: Window, property: &str) -> anyhow::Result<Vec<Window>> {
        let (name, max) = (self.atom(property)?, u32::try_from(WINDOWS_MAX)?);
        let reply = self.connection.get_property(false, of, name, AtomEnum::WINDOW, 0, max)?.reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    }
}

/// Runs blocking X calls beside the reactor, within a limit.
async fn on_display<T: Send + 'static>(
    look: impl FnOnce(&Display) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let looking = tokio::task::spawn_blocking(move || look(&Display::open()?));
    tokio::time::timeout(Duration::from_millis(LOOK_MS_MAX), looking).await.context("the display does not answer")??
}

/// The window manager's sign (EWMH `_NET_SUPPORTING_WM_CHECK`): a window that names itself.
fn manager_runs(display: &Display) -> anyhow::Result<bool> {
    const SIGN: &str = "_NET_SUPPORTING_WM_CHECK";
    let Some(&window) = display.windows(display.root, SIGN)?.first() else { return Ok(false) };
    Ok(display.windows(window, SIGN)?.first() == Some(&window))
}

/// A window on the display.
pub(crate) struct Shown {
    id: Window,
    /// `WM_CLASS`, first part.
    instance: String,
    /// `WM_CLASS`, second part.
    class: String,
}

fn shown_windows(display: &Display) -> anyhow::Result<Vec<Shown>> {
    let mut shown = Vec::new();
    for id in display.windows(display.root, "_NET_CLIENT_LIST")? {
        // A window may go at any moment: that is not an error of the others.
        let Ok(attributes) = display.connection.get_window_attributes(id)?.reply() else { continue };
        if attributes.map_state != MapState::VIEWABLE {
            continue;
        }
        let class = display.connection.get_property(false, id, AtomEnum::WM_CLASS, AtomEnum::STRING, 0, 256)?;
        let Ok(class) = class.reply() else { continue };
        let mut parts = class.value.split(|&b| b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (instance, class) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        shown.push(Shown { id, instance, class });
    }
    Ok(shown)
}

/// Asks the window manager (EWMH `_NET_ACTIVE_WINDOW`, as a pager would) to raise and focus a window that fits.
fn activate(display: &Display, fits: fn(&Shown) -> bool) -> anyhow::Result<()> {
    let window = shown_windows(display)?.into_iter().find(fits);
    let window = window.ok_or_else(|| anyhow!("the window to raise is not shown"))?.id;
    let message = ClientMessageEvent::new(32, window, display.atom("_NET_ACTIVE_WINDOW")?, [2, 0, 0, 0, 0]);
    let mask = EventMask::SUBSTRUCTURE_NOTIFY | EventMask::SUBSTRUCTURE_REDIRECT;
    display.connection.send_event(false, display.root, mask, message)?.check()?;
    for _ in 0..RAISE_MS_MAX / RAISE_EVERY_MS {
        if display.windows(display.root, "_NET_ACTIVE_WINDOW")?.contains(&window) {
            return Ok(());
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: RAISE_EVERY_MS * 1_000_000 };
        // Interrupted or not: the next look tells.
        let _ = poll(&mut [], Some(&pause));
    }
    Err(anyhow!("the window manager did not raise the window"))
}
