//! The handle on the terminal: reads the screen, types and presses keys, through tmux's control mode.

use super::tmux::{REQUESTS_MAX, TmuxError, TmuxRequest, quote};
use crate::log;
use anteroom_screen::ScreenSnapshot;
use anteroom_wire::{Secret, backoff::Backoff, provider::Key};
use std::{io, time::Duration};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// The name of the tmux session.
pub(super) const TMUX_SESSION: &str = "main";
/// Lines above the screen that are read; with the tallest screen they fit into one response of tmux.
const HISTORY_LINES: usize = 1_600;
/// Lines above the screen in which an address may begin.
const LINES_ABOVE: usize = 300;
const REQUEST_MS_MAX: u64 = 10_000;
/// How long a new pane process may take to connect: the first limit and the longest, milliseconds.
const PANE_MS_MIN: u64 = 5_000;
const PANE_MS_MAX: u64 = 40_000;
const KEY_EVERY_MS: u64 = 100;

/// A handle on the terminal.
pub(crate) struct Terminal {
    requests: mpsc::Sender<TmuxRequest>,
    /// Read by the tmux control client.
    pub(super) tmux_requests: Mutex<mpsc::Receiver<TmuxRequest>>,
    /// Whether the control client is attached to the session.
    pub(super) control_client_attached: watch::Sender<bool>,
    /// Whether a pane process is connected to the agent.
    pub(super) pane_connected: watch::Sender<bool>,
    /// Counts changes of the screen.
    pub(super) changes: watch::Sender<u64>,
}

/// Why a request to the terminal failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    #[error("the terminal is not up")]
    Down,
    #[error("the terminal did not answer in time")]
    Timeout,
    #[error(transparent)]
    Tmux(#[from] TmuxError),
    #[error("tmux did not print the size of the terminal")]
    NoSize,
    #[error("a terminal stream could not be started")]
    Start(#[from] io::Error),
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        Self {
            requests,
            tmux_requests: Mutex::new(received),
            control_client_attached: watch::Sender::new(false),
            pane_connected: watch::Sender::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// Records whether a pane process is connected to the agent.
    pub(super) fn set_pane_connected(&self, connected: bool) {
        self.pane_connected.send_replace(connected);
    }

    /// Counts changes of the screen.
    pub(crate) fn subscribe_screen_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn request(&self, command: String) -> Result<Vec<String>, TerminalError> {
        if !*self.control_client_attached.borrow() {
            return Err(TerminalError::Down);
        }
        let (respond, response) = oneshot::channel();
        let exchange = async {
            self.requests.send(TmuxRequest { command, respond }).await.map_err(|_| TerminalError::Down)?;
            response.await.map_err(|_| TerminalError::Down)?.map_err(TerminalError::Tmux)
        };
        tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), exchange)
            .await
            .map_err(|_| TerminalError::Timeout)?
    }

    /// The visible lines without trailing blanks. Lines that the terminal wrapped are joined.
    pub(crate) async fn read_screen(&self) -> Result<Vec<String>, TerminalError> {
        self.capture("").await
    }

    /// As [`Self::read_screen`], with up to 1600 lines of scrollback before it.
    pub(crate) async fn read_history(&self) -> Result<Vec<String>, TerminalError> {
        self.capture(&format!("-S -{HISTORY_LINES} ")).await
    }

    async fn capture(&self, from: &str) -> Result<Vec<String>, TerminalError> {
        let mut lines = self.request(format!("capture-pane -p -J {from}-t {TMUX_SESSION}")).await?;
        for line in &mut lines {
            line.truncate(line.trim_end().len());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Ok(lines)
    }

    /// The screen and up to [`LINES_ABOVE`] lines above it, with what is needed to find a URL there.
    pub(crate) async fn read_snapshot(&self) -> Result<ScreenSnapshot, TerminalError> {
        // The cursor first: text that arrives in between then counts as possibly incomplete.
        let geometry = format!(
            "display-message -p -t {TMUX_SESSION} '#{{pane_width}} #{{pane_height}} #{{cursor_y}} #{{history_size}}'"
        );
        let geometry = self.request(geometry).await?;
        let numbers: Vec<usize> =
            geometry.first().map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect()).unwrap_or_default();
        let [width, height, cursor_row, history_lines] = numbers[..] else {
            return Err(TerminalError::NoSize);
        };
        let capture = format!("capture-pane -p -e -J -t {TMUX_SESSION}");
        let snapshot = ScreenSnapshot::new(&self.request(capture.clone()).await?, width, height, cursor_row);
        // The history has only lines of this run: it is cleared when the tool starts.
        match history_lines {
            0 => Ok(snapshot),
            _ => Ok(snapshot.with_lines_above(&self.request(format!("{capture} -S -{LINES_ABOVE} -E -1")).await?)),
        }
    }

    /// Restarts the pane's process, repeatedly until one has connected: without it there is no tool. If the terminal is down it does
    /// nothing, since the next terminal starts with a new pane.
    pub(crate) async fn restart_pane(&self) {
        let mut connected = self.pane_connected.subscribe();
        let mut timeouts = Backoff::new(Duration::from_millis(PANE_MS_MIN), Duration::from_millis(PANE_MS_MAX));
        loop {
            if matches!(self.request(format!("respawn-pane -k -t {TMUX_SESSION}")).await, Err(TerminalError::Down)) {
                return;
            }
            if tokio::time::timeout(timeouts.next_delay(), connected.wait_for(|connected| *connected)).await.is_ok() {
                return;
            }
            log::write_line("no pane has connected; it is restarted");
        }
    }

    /// Presses keys, one after another.
    pub(crate) async fn press_keys(&self, keys: &[Key]) -> Result<(), TerminalError> {
        for (at, key) in keys.iter().enumerate() {
            if at > 0 {
                // A full-screen program that reads several keys at once takes them for one.
                tokio::time::sleep(Duration::from_millis(KEY_EVERY_MS)).await;
            }
            self.request(format!("send-keys -t {TMUX_SESSION} {}", key_name(*key))).await?;
        }
        Ok(())
    }

    /// Pastes `text` as a terminal does, and then presses Enter if `enter` is set.
    pub(crate) async fn paste_text(&self, text: &Secret, enter: bool) -> Result<(), TerminalError> {
        if !text.expose().is_empty() {
            self.request(format!("set-buffer -b input -- {}", quote(text.expose()))).await?;
            self.request(format!("paste-buffer -d -p -b input -t {TMUX_SESSION}")).await?;
        }
        if enter {
            self.request(format!("send-keys -t {TMUX_SESSION} Enter")).await?;
        }
        Ok(())
    }
}

/// tmux's name of a key.
fn key_name(key: Key) -> &'static str {
    match key {
        Key::Enter => "Enter",
        Key::Escape => "Escape",
        Key::Tab => "Tab",
        Key::Space => "Space",
        Key::Up => "Up",
        Key::Down => "Down",
        Key::Left => "Left",
        Key::Right => "Right",
        Key::Y => "y",
        Key::N => "n",
    }
}
