//! `anteroom exec --credential ID -- COMMAND…`: a command in a fresh machine with the stored credential laid down, in the person's own
//! terminal.
//!
//! ```text
//!  started ──▶ follow ───────────────────────────────▶ over: exit code
//!         └──▶ attach ⇄ (ticket · WebSocket · bytes) ─┘        └──▶ the last screen, once more, as text
//! ```
//!
//! The terminal is a `tmux` in the machine: whoever attaches late is shown what stands on it, and nothing that was printed before is
//! lost. What it shows lies on the terminal's other screen, which is taken away at the end; so the last screen is printed then as text.
//! That is also all there is of a command that ended before anybody could attach. Without a terminal here, what appears on the machine's
//! is printed line by line.

mod attach;
mod scroll;
mod tty;

use super::{
    client::{Client, ClientError},
    watch::{self, Told},
};
use crate::config::Config;
use anteroom_wire::{
    CredentialId,
    agent::{TerminalSize, UsePurpose},
    api::{ScreenView, SessionView, StartResponse, Status, UseRequest},
};
use attach::Attachment;
use http::Method;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch as channel,
};

/// What this command ends with when it is not the other command's code: it could not be run, or not to its end.
pub(super) const NOT_RUN: u8 = 125;
/// The machine's terminal when there is none here: tall, so that much of what it shows is there at once.
const WITHOUT_TERMINAL: TerminalSize = TerminalSize { cols: 160, rows: 300 };
/// What of the output is on its way may take this long when the session is over.
const REST_MS_MAX: u64 = 1_000;

#[derive(Debug, clap::Args)]
pub(super) struct ExecArguments {
    /// The credential's id; see `anteroom credentials list`.
    #[arg(long, value_name = "ID")]
    credential: CredentialId,
    /// The command and its arguments. No shell reads them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(config: &Config, arguments: ExecArguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&config.state_dir);
    match exec(&client, arguments).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            tell(&format!("{error:#}"));
            Ok(ExitCode::from(NOT_RUN))
        }
    }
}

async fn exec(client: &Client, arguments: ExecArguments) -> anyhow::Result<u8> {
    let path = format!("/api/credentials/{}/use", arguments.credential);
    let request = UseRequest { purpose: UsePurpose::Exec, argv: arguments.command };
    let started: StartResponse = client.call(Method::POST, &path, Some(&request)).await?;
    let is_person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut news = News::new();
    let mut attachment = Attachment::new(client, &started.session.id, news.stage.subscribe(), is_person);
    let end = serve(client, &started.session, &mut attachment, &mut news).await;
    // Whatever happened: the terminal as it was, before another word.
    attachment.let_go();
    match end? {
        End::Over(view) => {
            attachment.last_screen(last_screen(client, &view).await)?;
            Ok(outcome(&view, &news))
        }
        End::Signal(code) => {
            let path = format!("/api/auth/session/{}/cancel", started.session.id);
            let _: SessionView = client.call(Method::POST, &path, None::<&()>).await?;
            Ok(code)
        }
    }
}

/// How the waiting ended.
enum End {
    /// The session is over.
    Over(Box<SessionView>),
    /// This command was told to end, and ends with this code.
    Signal(u8),
}

/// Carries bytes until the session is over or this command is told to end.
async fn serve(
    client: &Client,
    session: &SessionView,
    attachment: &mut Attachment<'_>,
    news: &mut News,
) -> anyhow::Result<End> {
    let mut signals = Signals::new()?;
    let followed = watch::follow(client, &session.id, |told| news.take(told));
    let attached = attachment.run();
    let alive = stay(client, session);
    tokio::pin!(followed, attached, alive);
    let mut is_attached = true;
    let end = loop {
        tokio::select! {
            view = &mut followed => break End::Over(Box::new(view?)),
            code = signals.any() => break End::Signal(code),
            done = &mut attached, if is_attached => {
                done?;
                is_attached = false;
            }
            never = &mut alive => match never {},
        }
    };
    if is_attached && matches!(end, End::Over(_)) {
        // The last bytes and the socket's close may come a moment after the news.
        let _ = tokio::time::timeout(Duration::from_millis(REST_MS_MAX), attached).await;
    }
    Ok(end)
}

/// Says now and then that somebody is here: a command may work for long without a key pressed.
async fn stay(client: &Client, session: &SessionView) -> std::convert::Infallible {
    let path = format!("/api/auth/session/{}/heartbeat", session.id);
    let parsed = |at: &str| at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let idle_s = session.idle_deadline_at.as_deref().and_then(parsed).zip(parsed(&session.created_at));
    let every_s = idle_s.map_or(60, |(until, from)| (until - from) / 3).clamp(1, 60);
    loop {
        tokio::time::sleep(Duration::from_secs(every_s.unsigned_abs())).await;
        // A server that is away is the follower's matter.
        let _: Result<SessionView, ClientError> = client.call(Method::POST, &path, None::<&()>).await;
    }
}

/// How far the command is, for who carries its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Stage {
    /// Not started.
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Over,
}

/// What was heard of the session.
struct News {
    stage: channel::Sender<Stage>,
    position: Option<u32>,
    changed: bool,
}

impl News {
    fn new() -> Self {
        Self { stage: channel::Sender::new(Stage::Waiting), position: None, changed: false }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::View(view) => {
                if view.queue_position != self.position
                    && let Some(position) = view.queue_position
                {
                    tell(&format!("waiting for a machine: number {position} in line"));
                }
                self.position = view.queue_position;
                if view.status.is_terminal() {
                    self.stage.send_replace(Stage::Over);
                }
            }
            Told::Entry(entry) => match entry.kind.as_str() {
                "cli_started" => drop(self.stage.send_replace(Stage::Running)),
                "use_completed" => self.changed = entry.data["changed"].as_bool().unwrap_or(false),
                "machine_replaced" => tell(&format!("{} The command is started again.", entry.sentence)),
                _ => {}
            },
        }
    }
}

/// What stood on the terminal at the end. A server that was started since then does not know it: it is kept in memory alone.
async fn last_screen(client: &Client, view: &SessionView) -> Vec<String> {
    match client.get::<ScreenView>(&format!("/api/auth/session/{}/screen", view.id)).await {
        Ok(screen) => screen.lines,
        Err(error) => {
            if view.status == Status::Completed {
                tell(&format!("what the command showed last is not here any more: {error}"));
            }
            Vec::new()
        }
    }
}

/// Says how it ended where that is not the command's own matter; the exit code.
fn outcome(view: &SessionView, news: &News) -> u8 {
    let code = view.credential_use.as_ref().and_then(|used| used.exit_code);
    match (view.status, code) {
        (Status::Completed, Some(code)) => {
            if news.changed {
                let id = view.credential_use.as_ref().map_or_else(String::new, |uses| format!(" ({})", uses.credential));
                tell(&format!("the command changed the credential; the new one is sealed and stored{id}"));
            }
            u8::try_from(code).unwrap_or(NOT_RUN)
        }
        (_, _) => {
            let why = view.reason.as_ref().map_or("its end is not on record", |reason| &reason.sentence);
            tell(&format!("the command was not run to its end: {why} See: anteroom diagnose {}", view.id));
            NOT_RUN
        }
    }
}

/// What ends this command from outside. While a terminal is raw, its Ctrl-C is a byte for the command and no signal.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [interrupt, terminate, hang_up] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self { interrupt: interrupt?, terminate: terminate?, hang_up: hang_up? })
    }

    /// The exit code that a shell gives to whoever is ended so.
    async fn any(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        }
    }
}

/// A line for the person, beside the command's own output. A terminal in raw mode needs both ends of a line.
fn tell(text: &str) {
    let end = if tty::is_raw() { "\r\n" } else { "\n" };
    let _ = write!(std::io::stderr().lock(), "anteroom: {text}{end}");
}
