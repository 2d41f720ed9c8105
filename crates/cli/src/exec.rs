//! `anteroom exec --credential ID -- COMMAND…`: runs a command in a new machine in which the stored credential is installed, attached
//! to the local terminal.
//!
//! ```text
//!  started ──▶ follow ───────────────────────────────▶ over: exit code
//!         └──▶ attach ⇄ (ticket · WebSocket · bytes) ─┘        └──▶ the last screen, once more, as text
//! ```
//!
//! The command runs in a `tmux` in the machine, so attaching late shows the current screen. `tmux` uses the alternate screen of the
//! local terminal, which is closed at the end; therefore the last screen is then printed as text. If the command ends before the
//! client has attached, that text is the only output. If standard output is not a terminal, new lines are printed as they appear.

mod attach;
mod scrollback;
mod tty;

use super::{
    client::{ApiClient, ClientError},
    output::one_line,
    watch::{self, SessionUpdate},
};
use anteroom_wire::{
    CredentialId, SessionId, TimelineKind,
    agent::{TerminalSize, UsePurpose},
    api::{CredentialUseRequest, ScreenView, SessionStatus, SessionView, StartResponse},
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

/// Exit code of `exec` if the command could not be run or did not finish.
pub(super) const EXIT_CODE_NOT_RUN: u8 = 125;
/// Size of the machine's terminal if there is no local terminal. It is tall so that a snapshot contains many lines.
const SIZE_WITHOUT_TERMINAL: TerminalSize = TerminalSize { cols: 160, rows: 300 };
/// Time for the remaining output to arrive after the session has ended, milliseconds.
const REMAINING_OUTPUT_MS_MAX: u64 = 1_000;

#[derive(Debug, clap::Args)]
pub(super) struct ExecArguments {
    /// The credential's id; see `anteroom credentials list`.
    #[arg(long, value_name = "ID")]
    credential: CredentialId,
    /// The command and its arguments. They are passed as they are, without a shell.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(client: &ApiClient, arguments: ExecArguments) -> anyhow::Result<ExitCode> {
    match exec(client, arguments).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            print_status(&format!("{error:#}"));
            Ok(ExitCode::from(EXIT_CODE_NOT_RUN))
        }
    }
}

async fn exec(client: &ApiClient, arguments: ExecArguments) -> anyhow::Result<u8> {
    let path = format!("/api/credentials/{}/use", arguments.credential);
    let request = CredentialUseRequest { purpose: UsePurpose::Exec, argv: arguments.command };
    let started: StartResponse = client.call(Method::POST, &path, Some(&request)).await?;
    let is_interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut progress = CommandProgress::new();
    let mut attachment = Attachment::new(client, &started.session.id, progress.stage.subscribe(), is_interactive);
    let end = run_attached(client, &started.session, &mut attachment, &mut progress).await;
    // The terminal must be restored before anything is printed.
    attachment.restore_local_terminal();
    match end? {
        ExecEnd::SessionOver(view) => {
            attachment.print_last_screen(last_screen(client, &view).await)?;
            Ok(report_outcome(&view, &progress))
        }
        ExecEnd::Signal(code) => {
            let path = format!("/api/auth/session/{}/cancel", started.session.id);
            let _: SessionView = client.call(Method::POST, &path, None::<&()>).await?;
            Ok(code)
        }
    }
}

/// The reason why `exec` stopped waiting.
enum ExecEnd {
    /// The session has ended.
    SessionOver(Box<SessionView>),
    /// This process received a signal; the exit code for it.
    Signal(u8),
}

/// Copies bytes until the session has ended or this process receives a signal.
async fn run_attached(
    client: &ApiClient,
    session: &SessionView,
    attachment: &mut Attachment<'_>,
    progress: &mut CommandProgress,
) -> anyhow::Result<ExecEnd> {
    let mut signals = Signals::new()?;
    let followed = watch::follow_session(client, &session.id, |update| progress.update(update));
    let attached = attachment.run();
    let heartbeats = send_heartbeats(client, session);
    tokio::pin!(followed, attached, heartbeats);
    let mut is_attached = true;
    let end = loop {
        tokio::select! {
            view = &mut followed => break ExecEnd::SessionOver(Box::new(view?)),
            code = signals.any() => break ExecEnd::Signal(code),
            done = &mut attached, if is_attached => {
                done?;
                is_attached = false;
            }
            never = &mut heartbeats => match never {},
        }
    };
    if is_attached && matches!(end, ExecEnd::SessionOver(_)) {
        // The last bytes may arrive after the event of the session's end.
        let _ = tokio::time::timeout(Duration::from_millis(REMAINING_OUTPUT_MS_MAX), attached).await;
    }
    Ok(end)
}

/// Sends heartbeats, so that a command that runs long without input does not reach the idle timeout.
async fn send_heartbeats(client: &ApiClient, session: &SessionView) -> std::convert::Infallible {
    let path = format!("/api/auth/session/{}/heartbeat", session.id);
    let parsed = |at: &str| at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let idle_s = session.idle_deadline_at.as_deref().and_then(parsed).zip(parsed(&session.created_at));
    let interval_s = idle_s.map_or(60, |(until, from)| (until - from) / 3).clamp(1, 60);
    loop {
        tokio::time::sleep(Duration::from_secs(interval_s.unsigned_abs())).await;
        // If the server is not reachable, `watch::follow` reports it.
        let _: Result<SessionView, ClientError> = client.call(Method::POST, &path, None::<&()>).await;
    }
}

/// The stage of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum CommandStage {
    /// Not started.
    Waiting,
    /// Running.
    Running,
    /// Ended.
    Ended,
}

/// The state of the command as the session's events report it.
struct CommandProgress {
    stage: channel::Sender<CommandStage>,
    queue_position: Option<u32>,
    waits_for: Option<SessionId>,
    credential_changed: bool,
}

impl CommandProgress {
    fn new() -> Self {
        let stage = channel::Sender::new(CommandStage::Waiting);
        Self { stage, queue_position: None, waits_for: None, credential_changed: false }
    }

    fn update(&mut self, update: SessionUpdate) {
        match update {
            SessionUpdate::View(view) => {
                let waits_for = view.credential_use.as_ref().and_then(|used| used.waits_for.clone());
                if let Some(other) = waits_for.as_ref().filter(|_| waits_for != self.waits_for) {
                    print_status(&format!("another use of this credential is running ({other}); waiting"));
                } else if waits_for.is_none()
                    && view.queue_position != self.queue_position
                    && let Some(position) = view.queue_position
                {
                    print_status(&format!("waiting for a machine: queue position {position}"));
                }
                (self.queue_position, self.waits_for) = (view.queue_position, waits_for);
                if view.status.is_ended() {
                    self.stage.send_replace(CommandStage::Ended);
                }
            }
            SessionUpdate::Entry(entry) if entry.kind == TimelineKind::CliStarted => {
                self.stage.send_replace(CommandStage::Running);
            }
            SessionUpdate::Entry(entry) if entry.kind == TimelineKind::UseCompleted => {
                self.credential_changed = entry.data["changed"].as_bool().unwrap_or(false);
            }
            SessionUpdate::Entry(entry) if entry.kind == TimelineKind::MachineReplaced => {
                print_status(&format!("{} The command is started again.", entry.sentence));
            }
            SessionUpdate::Entry(_) => {}
        }
    }
}

/// The last screen of the terminal. The server keeps it only in memory, so it is lost when the server restarts.
async fn last_screen(client: &ApiClient, view: &SessionView) -> Vec<String> {
    match client.get::<ScreenView>(&format!("/api/auth/session/{}/screen", view.id)).await {
        Ok(screen) => screen.lines,
        Err(error) => {
            if view.status == SessionStatus::Completed {
                print_status(&format!("the last screen of the command is not available: {error}"));
            }
            Vec::new()
        }
    }
}

/// Prints a changed credential or a failure, and returns the exit code.
fn report_outcome(view: &SessionView, progress: &CommandProgress) -> u8 {
    let code = view.credential_use.as_ref().and_then(|used| used.exit_code);
    match (view.status, code) {
        (SessionStatus::Completed, Some(code)) => {
            if progress.credential_changed {
                let id =
                    view.credential_use.as_ref().map_or_else(String::new, |uses| format!(" ({})", uses.credential));
                print_status(&format!("the command changed the credential; the new version is stored{id}"));
            }
            u8::try_from(code).unwrap_or(EXIT_CODE_NOT_RUN)
        }
        (_, _) => {
            let reason = view.reason.as_ref().map_or("The reason is not recorded.", |reason| &reason.sentence);
            print_status(&format!("the command did not finish: {reason} See: anteroom diagnose {}", view.id));
            EXIT_CODE_NOT_RUN
        }
    }
}

/// The signals that end `exec`. In raw mode Ctrl-C is input for the command, not a signal.
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

    /// Waits for a signal and returns the exit code that a shell uses for it.
    async fn any(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        }
    }
}

/// Prints a line to standard error, separate from the command's output. In raw mode a line must end with `\r\n`.
fn print_status(text: &str) {
    let end = if tty::is_raw_mode() { "\r\n" } else { "\n" };
    let _ = write!(std::io::stderr().lock(), "anteroom: {}{end}", one_line(text));
}
