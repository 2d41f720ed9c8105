//! `anteroom exec --credential ID -- COMMAND…`: runs a command in a new machine in which the stored credential is installed, with the
//! standard streams of this process.
//!
//! ```text
//!  started ──▶ follow the session ──────────────────────────────▶ over: the exit code
//!         └──▶ connect ─▶ streams, signals, sizes ─▶ exit status ─┘
//!                              └─ lost: cancel the session, 125
//! ```
//!
//! With `--session SESSION` it is a further command in the machine of a session that `exec` started, which goes on.
//!
//! A pseudo-terminal is used if standard input and output are a terminal, or with `--tty`; otherwise the streams are pipes, byte for byte.

pub(super) mod attach;
pub(super) mod copy_files;
mod signals;
mod stream;
mod tty;

use super::{
    client::{ApiClient, ClientError},
    output::one_line,
    watch::{self, SessionUpdate},
};
use anteroom_wire::{
    CredentialId, SessionId, TimelineKind,
    agent::UsePurpose,
    api::{CredentialUseRequest, SessionStatus, SessionView, StartResponse},
    exec::{ExecSignal, ExecStart},
};
use http::Method;
use signals::{Due, PassedOn, Signals};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};
use stream::{ExecStream, StreamEnd, Streams};
use tokio::sync::{mpsc, watch as channel};

/// Exit code of `exec` if the command could not be run or did not finish.
pub(super) const EXIT_CODE_NOT_RUN: u8 = 125;
/// Exit code of `exec` if its output is closed: 128 + SIGPIPE.
const EXIT_CODE_OUTPUT_CLOSED: u8 = 141;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["credential", "session"]))]
pub(super) struct ExecArguments {
    /// The credential's id; see `anteroom credentials list`. The command runs in a new machine.
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    credential: Option<CredentialId>,
    /// Run the command in the machine of this session, which `anteroom exec` started.
    #[arg(long, value_name = "SESSION")]
    session: Option<SessionId>,
    /// Give the command a pseudo-terminal. This is the default if standard input and output are a terminal.
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// Give the command pipes, also if standard input and output are a terminal.
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
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
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = (arguments.tty || (is_terminal && !arguments.no_tty)).then(stream::local_tty);
    if let Some(session) = &arguments.session {
        let start = ExecStart { argv: arguments.command, tty };
        let end = run_command_in_session(client, session, start, Streams::standard()?).await;
        return finish(client, None, end?).await;
    }
    let Some(credential) = &arguments.credential else { anyhow::bail!("--credential or --session is required") };
    let path = format!("/api/credentials/{credential}/use");
    let request = CredentialUseRequest { purpose: UsePurpose::Exec, argv: arguments.command, attached: true };
    let started: StartResponse = client.call(Method::POST, &path, Some(&request)).await?;
    let session = &started.session;
    let mut progress = CommandProgress::new();
    let stage = progress.stage.subscribe();
    let followed = watch::follow_session(client, &session.id, |update| progress.update(update));
    let followed = async {
        tokio::select! {
            view = followed => Ok(view?),
            never = send_heartbeats(client, session) => match never {},
        }
    };
    let start = ExecStart { argv: Vec::new(), tty };
    let end = run_attached((client, &session.id), start, Streams::standard()?, stage, Some(followed)).await;
    let end = restore_terminal(end)?;
    finish(client, Some((&session.id, &progress)), end).await
}

/// Runs a command in the machine of a running session, with these streams.
async fn run_in_session(
    client: &ApiClient,
    session: &SessionId,
    argv: Vec<String>,
    streams: Streams,
) -> anyhow::Result<ExecEnd> {
    run_command_in_session(client, session, ExecStart { argv, tty: None }, streams).await
}

async fn run_command_in_session(
    client: &ApiClient,
    session: &SessionId,
    start: ExecStart,
    streams: Streams,
) -> anyhow::Result<ExecEnd> {
    let stage = channel::Sender::new(CommandStage::Waiting);
    let followed = None::<std::future::Pending<anyhow::Result<SessionView>>>;
    let end = run_attached((client, session), start, streams, stage.subscribe(), followed).await;
    restore_terminal(end)
}

/// Restores the terminal, which happens before anything is printed.
fn restore_terminal(end: anyhow::Result<ExecEnd>) -> anyhow::Result<ExecEnd> {
    match &end {
        Ok(ExecEnd::Exited { .. } | ExecEnd::SessionOver { .. }) => tty::restore_after_command(),
        Ok(ExecEnd::Stopped { .. }) | Err(_) => tty::restore(),
    }
    end
}

/// Prints how the command ended. `started`: the session that this process started, and what is known of it. Returns the exit code.
async fn finish(
    client: &ApiClient,
    started: Option<(&SessionId, &CommandProgress)>,
    end: ExecEnd,
) -> anyhow::Result<u8> {
    match (end, started) {
        (ExecEnd::Exited { code, message }, _) => {
            if let Some(message) = message {
                print_status(&message);
            }
            Ok(code)
        }
        (ExecEnd::SessionOver { view: Some(view), exited }, Some((_, progress))) => {
            Ok(report_outcome(&view, exited, progress))
        }
        (ExecEnd::SessionOver { .. }, _) => anyhow::bail!("the session has ended"),
        (ExecEnd::Stopped { code, why }, started) => {
            if let Some(why) = why {
                print_status(&why);
            }
            let Some((session, _)) = started else { return Ok(code) };
            let path = format!("/api/auth/session/{session}/cancel");
            let cancelled: Result<SessionView, ClientError> = client.call(Method::POST, &path, None::<&()>).await;
            match cancelled {
                // It has ended, or the server is away: its machine ends the command.
                Err(ClientError::Api(_) | ClientError::NoServer { .. } | ClientError::Unreachable { .. }) | Ok(_) => {
                    Ok(code)
                }
                Err(error @ (ClientError::TokenRefused { .. } | ClientError::InvalidResponse(_))) => Err(error.into()),
            }
        }
    }
}

/// The reason why `exec` stopped waiting.
enum ExecEnd {
    /// The command has exited, in a session that goes on.
    Exited {
        code: u8,
        /// Why it was not run.
        message: Option<String>,
    },
    /// The session has ended.
    SessionOver {
        /// Its last state, if it was followed.
        view: Option<Box<SessionView>>,
        /// The exit status, and why the command was not run.
        exited: Option<(u8, Option<String>)>,
    },
    /// The command did not finish: the exit code, and the reason to print.
    Stopped { code: u8, why: Option<String> },
}

impl ExecEnd {
    fn lost(why: &str) -> Self {
        let why = format!("the connection to the command was lost ({why}); the command is ended");
        Self::Stopped { code: EXIT_CODE_NOT_RUN, why: Some(why) }
    }

    /// The local output cannot be written.
    fn output_closed(error: std::io::Error) -> anyhow::Result<Self> {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Ok(Self::Stopped { code: EXIT_CODE_OUTPUT_CLOSED, why: None });
        }
        Err(error.into())
    }
}

/// Copies bytes until the session has ended, or the command cannot go on. `followed` returns the ended session; if it never does, the end
/// of the command is enough.
async fn run_attached(
    (client, session): (&ApiClient, &SessionId),
    start: ExecStart,
    streams: Streams,
    stage: channel::Receiver<CommandStage>,
    followed: Option<impl Future<Output = anyhow::Result<SessionView>>>,
) -> anyhow::Result<ExecEnd> {
    let mut signals = Signals::new()?;
    let (to_command, from_here) = mpsc::unbounded_channel();
    let mut passed_on = PassedOn::new(to_command);
    let started = channel::Sender::new(false);
    let is_started = started.subscribe();
    let is_raw = start.tty.is_some() && std::io::stdin().is_terminal();
    let stream = ExecStream { client, session, start, is_raw, signals: from_here, stage, started };
    let is_followed = followed.is_some();
    let followed = async {
        match followed {
            Some(followed) => followed.await,
            None => std::future::pending().await,
        }
    };
    let streamed = stream.run(streams);
    tokio::pin!(followed, streamed);
    let (mut exited, mut is_streaming) = (None, true);
    loop {
        tokio::select! {
            view = &mut followed => return Ok(ExecEnd::SessionOver { view: Some(Box::new(view?)), exited }),
            end = &mut streamed, if is_streaming => {
                is_streaming = false;
                match end? {
                    StreamEnd::Exited { code, message } if is_followed => exited = Some((code, message)),
                    StreamEnd::Exited { code, message } => return Ok(ExecEnd::Exited { code, message }),
                    StreamEnd::SessionOver if is_followed => {}
                    StreamEnd::SessionOver => return Ok(ExecEnd::SessionOver { view: None, exited }),
                    StreamEnd::Lost(why) => return Ok(ExecEnd::lost(&why)),
                    StreamEnd::OutputClosed(error) => return ExecEnd::output_closed(error),
                }
            }
            signal = signals.next() => {
                if *is_started.borrow() && is_streaming {
                    passed_on.pass_on(signal);
                } else if signal == ExecSignal::Tstp {
                    signals::suspend();
                } else {
                    return Ok(ExecEnd::Stopped { code: signals::exit_code(signal), why: None });
                }
            }
            due = passed_on.wait_due() => match due {
                Due::Suspension => passed_on.suspend(),
                Due::End(code) => return Ok(ExecEnd::Stopped { code, why: None }),
            },
        }
    }
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

/// Prints a changed credential or a failure, and returns the exit code.
fn report_outcome(view: &SessionView, exited: Option<(u8, Option<String>)>, progress: &CommandProgress) -> u8 {
    let recorded = view.credential_use.as_ref().and_then(|used| used.exit_code);
    if view.status != SessionStatus::Completed || recorded.is_none() {
        let reason = view.reason.as_ref().map_or("The reason is not recorded.", |reason| &reason.sentence);
        print_status(&format!("the command did not finish: {reason} See: anteroom diagnose {}", view.id));
        return EXIT_CODE_NOT_RUN;
    }
    if progress.credential_changed {
        let id = view.credential_use.as_ref().map_or_else(String::new, |uses| format!(" ({})", uses.credential));
        print_status(&format!("the command changed the credential; the new version is stored{id}"));
    }
    match exited {
        Some((code, message)) => {
            if let Some(message) = message {
                print_status(&message);
            }
            code
        }
        None => {
            print_status("the session has ended without the command's exit status");
            EXIT_CODE_NOT_RUN
        }
    }
}

/// Prints a line to standard error, separate from the command's output. In raw mode a line must end with `\r\n`.
fn print_status(text: &str) {
    let end = if tty::is_raw_mode() { "\r\n" } else { "\n" };
    let _ = write!(std::io::stderr().lock(), "anteroom: {}{end}", one_line(text));
}
