//! The tool's terminal: a tmux server of its own with one session, to which the desktop's xterm and every web terminal
//! attach. tmux answers the tool's cursor queries and keeps the screen as a model.

pub(crate) use anteroom_screen::Look;

use crate::{
    agent::Agent,
    backoff::Backoff,
    children::{self, Child, Tty},
    display,
    ends::Ends,
    log,
    supervisor::{self, Output},
    tmux::{self, ASKS_MAX, Ask, quoted},
};
use anteroom_wire::{Secret, agent::Stage, provider::Key};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};
use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// The one session.
pub(crate) const SESSION: &str = "main";
/// The size of the session while nobody is attached.
const START_COLS: u16 = 160;
const START_ROWS: u16 = 45;
/// Lines above the screen that are read; with the tallest screen they fit into one answer of tmux.
const HISTORY_LINES: usize = 1_600;
const ASK_MS_MAX: u64 = 10_000;
const SOCKET_EVERY_MS: u64 = 20;
/// How long a pane's process may take to come, the first time and at most, milliseconds.
const PANE_MS_MIN: u64 = 5_000;
const PANE_MS_MAX: u64 = 40_000;
const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 5_000;
const HELD_MS: u64 = 10_000;
const KEY_EVERY_MS: u64 = 100;

/// No key is tmux's own: what the person types is the tool's.
const CONFIG: &str = "\
set -s escape-time 0
set -s exit-empty off
set -s set-clipboard off
set -g prefix None
set -g prefix2 None
unbind-key -a
set -g status off
set -g mouse off
set -g remain-on-exit on
set -g detach-on-destroy off
set -g window-size latest
set -g aggressive-resize on
set -g history-limit 5000
set -g default-terminal tmux-256color
set -ga terminal-features xterm*:RGB:hyperlinks
set -g allow-rename off
set -g bell-action none
set -g update-environment \"\"
";

/// A handle on the terminal.
pub(crate) struct Terminal {
    asks: mpsc::Sender<Ask>,
    asked: Mutex<mpsc::Receiver<Ask>>,
    attached: watch::Sender<bool>,
    /// Whether a pane process waits for the tool or runs it.
    pub(crate) pane: watch::Sender<bool>,
    changes: watch::Sender<u64>,
}

/// Why the terminal did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    #[error("the terminal is not up")]
    Down,
    #[error("the terminal did not answer in time")]
    Slow,
    #[error("tmux refused: {0}")]
    Refused(String),
    #[error("a terminal stream could not be started")]
    Start(#[from] io::Error),
}

/// One more view of the terminal, in a pseudo-terminal of its own.
pub(crate) struct View {
    /// The `tmux attach` process.
    pub(crate) client: Child,
    /// The controlling side.
    pub(crate) pty: Arc<OwnedFd>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        Self {
            asks,
            asked: Mutex::new(asked),
            attached: watch::Sender::new(false),
            pane: watch::Sender::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// Counts changes of the screen.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn ask(&self, line: String) -> Result<Vec<String>, TerminalError> {
        if !*self.attached.borrow() {
            return Err(TerminalError::Down);
        }
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.asks.send(Ask { line, answer }).await.map_err(|_| TerminalError::Down)?;
            answered.await.map_err(|_| TerminalError::Down)?.map_err(TerminalError::Refused)
        };
        tokio::time::timeout(Duration::from_millis(ASK_MS_MAX), exchange).await.map_err(|_| TerminalError::Slow)?
    }

    /// The visible lines, those joined that the terminal wrapped, without trailing blanks.
    pub(crate) async fn screen(&self) -> Result<Vec<String>, TerminalError> {
        self.capture("").await
    }

    /// The same with what scrolled off, up to [`HISTORY_LINES`].
    pub(crate) async fn history(&self) -> Result<Vec<String>, TerminalError> {
        self.capture(&format!("-S -{HISTORY_LINES} ")).await
    }

    async fn capture(&self, from: &str) -> Result<Vec<String>, TerminalError> {
        let mut lines = self.ask(format!("capture-pane -p -J {from}-t {SESSION}")).await?;
        for line in &mut lines {
            line.truncate(line.trim_end().len());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Ok(lines)
    }

    /// The screen with what it takes to find an address on it.
    pub(crate) async fn look(&self) -> Result<Look, TerminalError> {
        // The cursor first: text that comes in between is then taken for one that still grows.
        let place = format!("display-message -p -t {SESSION} '#{{pane_width}} #{{pane_height}} #{{cursor_y}}'");
        let place = self.ask(place).await?;
        let numbers: Vec<usize> =
            place.first().map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect()).unwrap_or_default();
        let [width, height, cursor_row] = numbers[..] else {
            return Err(TerminalError::Refused("no size".into()));
        };
        let captured = self.ask(format!("capture-pane -p -e -J -t {SESSION}")).await?;
        Ok(Look::new(&captured, width, height, cursor_row))
    }

    /// Starts the pane's process anew, again until one has come: without it there is no tool. Without a terminal there is nothing to
    /// start it in, and the next one brings its own.
    pub(crate) async fn restart_pane(&self) {
        let mut came = self.pane.subscribe();
        let mut wait = Duration::from_millis(PANE_MS_MIN);
        loop {
            if matches!(self.ask(format!("respawn-pane -k -t {SESSION}")).await, Err(TerminalError::Down)) {
                return;
            }
            if tokio::time::timeout(wait, came.wait_for(|up| *up)).await.is_ok() {
                return;
            }
            log::line("no pane has come; it is started again");
            wait = (wait * 2).min(Duration::from_millis(PANE_MS_MAX));
        }
    }

    /// Presses keys, one after the other.
    pub(crate) async fn press(&self, keys: &[Key]) -> Result<(), TerminalError> {
        for (at, key) in keys.iter().enumerate() {
            if at > 0 {
                // Programs that draw their own screen take several keys in one read for one.
                tokio::time::sleep(Duration::from_millis(KEY_EVERY_MS)).await;
            }
            self.ask(format!("send-keys -t {SESSION} {}", key_name(*key))).await?;
        }
        Ok(())
    }

    /// Pastes `text` as a terminal would, then presses Enter if asked to.
    pub(crate) async fn type_text(&self, text: &Secret, enter: bool) -> Result<(), TerminalError> {
        if !text.expose().is_empty() {
            self.ask(format!("set-buffer -b input -- {}", quoted(text.expose()))).await?;
            self.ask(format!("paste-buffer -d -p -b input -t {SESSION}")).await?;
        }
        if enter {
            self.ask(format!("send-keys -t {SESSION} Enter")).await?;
        }
        Ok(())
    }
}

/// What tmux calls a key.
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

/// A command for tmux as the person, with this terminal's socket.
fn tmux_command(agent: &Agent) -> Command {
    let place = &agent.place;
    let mut command = children::command(supervisor::find_program("tmux", &place.path));
    command.arg("-u").arg("-N").arg("-S").arg(&place.tmux_socket).arg("-f").arg(&place.tmux_config);
    command.envs(place.environment(None)).current_dir(&place.home);
    supervisor::become_person(&mut command, place);
    command
}

/// The command line with which a desktop terminal attaches.
pub(crate) fn attach_argv(agent: &Agent) -> Vec<String> {
    let socket = agent.place.tmux_socket.to_string_lossy().into_owned();
    ["tmux", "-u", "-N", "-S", &socket, "attach-session", "-t", SESSION].map(str::to_owned).to_vec()
}

/// Attaches once more, `cols` × `rows`.
pub(crate) fn view(agent: &Agent, cols: u16, rows: u16) -> Result<View, TerminalError> {
    if !*agent.terminal.attached.borrow() {
        return Err(TerminalError::Down);
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let pty = openpt(flags).map_err(io::Error::from)?;
    grantpt(&pty).and_then(|()| unlockpt(&pty)).map_err(io::Error::from)?;
    resize(&pty, cols, rows)?;
    let name = ptsname(&pty, Vec::new()).map_err(io::Error::from)?;
    let open = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let tty = rustix::fs::open(&name, open, rustix::fs::Mode::empty()).map_err(io::Error::from)?;
    if let Some(id) = agent.place.person_id() {
        let id = rustix::fs::Uid::from_raw(id);
        rustix::fs::fchown(&tty, Some(id), None).map_err(io::Error::from)?;
    }
    // Raw before anything is typed into it: what comes before tmux has made it so would be echoed, and an end of input eaten.
    let mut modes = tcgetattr(&tty).map_err(io::Error::from)?;
    modes.make_raw();
    tcsetattr(&tty, OptionalActions::Now, &modes).map_err(io::Error::from)?;
    let mut command = tmux_command(agent);
    command.args(["attach-session", "-t", SESSION]);
    command.stdin(tty.try_clone()?).stdout(tty.try_clone()?).stderr(tty);
    let client = agent.children.spawn(&mut command, Tty::Stdin)?;
    rustix::io::ioctl_fionbio(&pty, true).map_err(io::Error::from)?;
    Ok(View { client, pty: Arc::new(pty) })
}

/// Sets a view's size; the program in it is told by the kernel.
pub(crate) fn resize(pty: &OwnedFd, cols: u16, rows: u16) -> io::Result<()> {
    Ok(tcsetwinsize(pty, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// Keeps the tmux server and its session up, for ever.
pub(crate) async fn keep(agent: Arc<Agent>) {
    let mut asked = agent.terminal.asked.lock().await;
    let mut backoff = Backoff::new(
        Duration::from_millis(RESTART_MS_MIN),
        Duration::from_millis(RESTART_MS_MAX),
        Duration::from_millis(HELD_MS),
    );
    let ends = Ends::new("tmux", Stage::Terminal);
    loop {
        agent.stages.trying(Stage::Terminal);
        let started = Instant::now();
        let output = Output::default();
        let ended = serve_once(&agent, &ends, &output, &mut asked).await;
        agent.terminal.attached.send_replace(false);
        ends.tell(&agent, &ended, &output);
        tokio::time::sleep(backoff.after(started.elapsed())).await;
    }
}

/// One life of the server.
async fn serve_once(
    agent: &Arc<Agent>,
    ends: &Ends,
    output: &Output,
    asked: &mut mpsc::Receiver<Ask>,
) -> io::Result<i32> {
    std::fs::write(&agent.place.tmux_config, CONFIG)?;
    match std::fs::remove_file(&agent.place.tmux_socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let place = &agent.place;
    let mut command = children::command(supervisor::find_program("tmux", &place.path));
    // -D: stay in the foreground, so that its end is seen.
    command.arg("-u").arg("-D").arg("-S").arg(&place.tmux_socket).arg("-f").arg(&place.tmux_config);
    command.envs(place.environment(None)).current_dir(&place.home);
    supervisor::become_person(&mut command, place);
    let mut server = output.capture(&agent.children, &mut command)?;
    ends.up();
    tokio::select! {
        code = server.wait() => Ok(code),
        error = attend(agent, asked) => Err(error),
    }
}

/// Attaches the control client, again when it ends. Returns only with an error.
async fn attend(agent: &Arc<Agent>, asked: &mut mpsc::Receiver<Ask>) -> io::Error {
    let terminal = &agent.terminal;
    loop {
        if agent.place.tmux_socket.exists() {
            let ready = async {
                loop {
                    let _ = terminal.attached.subscribe().wait_for(|up| *up).await;
                    let _ = terminal.pane.subscribe().wait_for(|up| *up).await;
                    display::terminal_shown(agent).await;
                    agent.stages.ready(Stage::Terminal);
                    agent.stages.lost(Stage::Terminal).await;
                }
            };
            let ended = tokio::select! {
                ended = control(agent, asked) => ended,
                () = ready => Ok(()),
            };
            terminal.attached.send_replace(false);
            if let Err(error) = ended {
                log::line(&format!("tmux control client: {error}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(SOCKET_EVERY_MS)).await;
    }
}

async fn control(agent: &Agent, asked: &mut mpsc::Receiver<Ask>) -> io::Result<()> {
    let terminal = &agent.terminal;
    let (stdin, mut input) = children::input_pipe()?;
    let (output, stdout) = children::output_pipe()?;
    let mut command = tmux_command(agent);
    command.arg("-C").args(["new-session", "-A", "-s", SESSION]);
    command.args(["-x", &START_COLS.to_string(), "-y", &START_ROWS.to_string(), "--"]);
    // Two words: tmux starts them without a shell.
    command.arg(&agent.place.agent_exe).arg("pane");
    command.stdin(stdin).stdout(stdout).stderr(Stdio::null());
    let mut client = agent.children.spawn(&mut command, Tty::None)?;
    drop(command); // its copies of the pipe ends
    tokio::select! {
        ended = tmux::converse(&mut input, output, asked, &terminal.attached, &terminal.changes) => ended,
        code = client.wait() => Err(io::Error::other(format!("ended with {code}"))),
    }
}
