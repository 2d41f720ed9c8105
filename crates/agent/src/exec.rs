//! The exec channel: runs a command with pipes or a pseudo-terminal and copies its bytes, without the terminal of the machine.
//!
//! ```text
//!  CONNECT exec:1 ─▶ start ─▶ spawned ─▶ copying ─▶ exited ─▶ rest of its output ─▶ exit status ─▶ the peer closes
//!                      │                    └─ the peer is lost: SIGHUP, SIGTERM, SIGKILL ──┘            │
//!                      └─ not found, not executable ────────────────────────────────────────▶ exit status┘
//! ```
//!
//! The session's command runs once; its use of the credential is completed when the peer has closed the channel, so that stopping the
//! machine cuts nothing off. Output is read from the command no faster than the peer reads it.

mod command;
mod copy;
mod messages;

use crate::{
    agent::Agent,
    log,
    platform::process::{EXIT_CODE_NOT_EXECUTABLE, EXIT_CODE_NOT_STARTED},
    sign_in::active_claim::ActiveClaim,
};
use anteroom_wire::{
    agent::{CliState, MachineEvent, Stage, ToolEvent, UsePurpose},
    exec::{ExecExit, ExecStart, STATUS, WINDOW},
};
use command::ExecCommand;
use messages::{MessageReader, MessageWriter};
use std::{io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// Exec channels of one machine at once.
pub(crate) const EXECS_MAX: usize = 8;
/// Time for the first message, milliseconds.
const START_MS_MAX: u64 = 10_000;
/// Time for the caller of the session's command to open its channel, from the claim on, milliseconds.
const CALLER_MS_MAX: u64 = 60_000;
/// Exit code of a command whose caller never came: 128 + SIGHUP.
const HUNG_UP: i32 = 129;
/// Exit code of a command that was refused.
const EXIT_CODE_NOT_RUN: i32 = 125;

/// Whether the session's command waits for an exec channel of its caller.
pub(crate) fn is_attached(claim: &ActiveClaim) -> bool {
    claim.use_credential.as_ref().is_some_and(|used| used.purpose == UsePurpose::Exec && used.attached)
}

/// Serves one exec channel until the peer has closed it.
pub(crate) async fn serve_exec<S: AsyncRead + AsyncWrite + Send>(agent: &Agent, stream: S) {
    let (read, write) = tokio::io::split(stream);
    let (mut messages, writer) = (MessageReader::new(read), MessageWriter::new(write));
    let started = tokio::time::timeout(Duration::from_millis(START_MS_MAX), messages.next_start()).await;
    let start = match started {
        Ok(Ok(start)) => start,
        Ok(Err(error)) => return log::write_line(&format!("exec: {error}")),
        Err(_) => return log::write_line("exec: no start in time"),
    };
    let session_command = match admit(agent, &start) {
        Ok(session_command) => session_command,
        Err(refused) => return finish_channel(&mut messages, &writer, EXIT_CODE_NOT_RUN, Some(refused)).await,
    };
    let run = session_command.then_some(SessionCommand { agent });
    let (code, message) = run_command(agent, start, run.as_ref(), &mut messages, &writer).await;
    finish_channel(&mut messages, &writer, code, message).await;
    if session_command {
        agent.credential_use_run.finish(code);
    }
}

/// Whether `start` is the session's command, which counts as started from now on.
fn admit(agent: &Agent, start: &ExecStart) -> Result<bool, String> {
    let Some(claim) = agent.claim.current() else { return Err("the machine is not claimed".to_owned()) };
    let runs_commands = claim.use_credential.as_ref().is_some_and(|used| used.purpose == UsePurpose::Exec);
    if !runs_commands {
        return Err("the session runs no command with a credential".to_owned());
    }
    if !start.argv.is_empty() {
        return Ok(false);
    }
    if !is_attached(&claim) {
        return Err("the session's command runs in the terminal".to_owned());
    }
    if agent.credential_use_run.start() { Ok(true) } else { Err("the session's command was started before".to_owned()) }
}

/// Starts the command and copies its bytes until it has exited. Returns its exit code, or why it could not be started.
async fn run_command<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    agent: &Agent,
    start: ExecStart,
    session_command: Option<&SessionCommand<'_>>,
    messages: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
) -> (i32, Option<String>) {
    let Some(claim) = agent.claim.current() else { return (EXIT_CODE_NOT_RUN, None) };
    let argv = match &claim.use_credential {
        Some(used) if session_command.is_some() => used.argv.clone(),
        Some(_) | None => start.argv,
    };
    let tool = agent.build_tool_command(&claim.provider);
    let spawned = ExecCommand::spawn(&agent.environment, &agent.supervisor.processes, tool, &argv, start.tty.as_ref());
    let command = match spawned {
        Ok(command) => command,
        Err(error) => {
            let program = argv.first().map_or("", String::as_str);
            let message = format!("{program} could not be started: {error}");
            if let Some(command) = session_command {
                command.record_failure(&claim, &message);
            }
            return (not_started_code(&error), Some(message));
        }
    };
    if let Some(session_command) = session_command {
        session_command.record_start(command.pid());
    }
    // The peer learns that the command runs; a peer that is lost is noticed while copying.
    let _ = writer.send(WINDOW, &0_u32.to_be_bytes()).await;
    let code = copy::copy_until_exit(command, messages, writer).await;
    if let Some(session_command) = session_command {
        session_command.record_exit(code);
    }
    (code, None)
}

fn not_started_code(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { EXIT_CODE_NOT_STARTED } else { EXIT_CODE_NOT_EXECUTABLE }
}

/// Sends the exit status and waits until the peer, which has read everything then, closes the channel.
async fn finish_channel<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    messages: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    code: i32,
    message: Option<String>,
) {
    let exit_code = u8::try_from(code).unwrap_or(u8::MAX);
    let status = serde_json::to_vec(&ExecExit { exit_code, message: message.map(Into::into) }).unwrap_or_default();
    if writer.send(STATUS, &status).await.is_ok() && writer.shutdown().await.is_ok() {
        while let Ok(Some(_)) = messages.next().await {}
    }
}

/// What is recorded of the session's command.
struct SessionCommand<'a> {
    agent: &'a Agent,
}

impl SessionCommand<'_> {
    fn record_start(&self, pid: u32) {
        let agent = self.agent;
        agent.cli_pid.send_replace(Some(pid));
        agent.readiness.set_ready(Stage::Cli);
        agent.sign_in.start_run();
        agent.sign_in.set_cli_state(CliState::Running);
        agent.events.push(ToolEvent::Started);
    }

    fn record_failure(&self, claim: &ActiveClaim, message: &str) {
        self.agent.readiness.record_last_failure(Stage::Cli, message);
        self.agent.events.push(MachineEvent::ChildExited {
            name: claim.provider.cli.clone().into(),
            code: None,
            restarts: 0,
            last_lines: vec![message.to_owned()].into(),
        });
        self.agent.final_output.send_replace(Some(Vec::new()));
    }

    /// The command's output is in no event and on no screen.
    fn record_exit(&self, code: i32) {
        self.agent.cli_pid.send_replace(None);
        self.agent.final_output.send_replace(Some(Vec::new()));
        self.agent.sign_in.set_cli_state(CliState::Exited { code });
        self.agent.events.push(ToolEvent::Exited { code, last_lines: Vec::<String>::new().into() });
    }
}

/// Ends the use of a credential whose caller does not come to run its command.
pub(crate) async fn end_use_without_caller(agent: &Agent) -> std::convert::Infallible {
    tokio::time::sleep(Duration::from_millis(CALLER_MS_MAX)).await;
    if agent.credential_use_run.start() {
        log::write_line("exec: the caller of the session's command did not come");
        let command = SessionCommand { agent };
        command.record_exit(HUNG_UP);
        agent.credential_use_run.finish(HUNG_UP);
    }
    std::future::pending().await
}

/// Serves the channel of a request that was answered.
pub(crate) async fn serve_upgraded(agent: Arc<Agent>, request: http::Request<hyper::body::Incoming>) {
    if let Ok(upgraded) = hyper::upgrade::on(request).await {
        serve_exec(&agent, hyper_util::rt::TokioIo::new(upgraded)).await;
    }
}
