//! The agent's side of a pane: decides what the pane runs and when, and records the result.

use super::{
    HANGUP_MS_MAX, PaneCommand, PaneEvent, TERMINATE_MS_MAX,
    ipc::{EventReader, send_command},
};
use crate::{
    agent::Agent,
    exec, log,
    platform::{
        environment::ExecutionEnvironment,
        process::{EXIT_CODE_NOT_STARTED, input_pipe},
    },
    sign_in::{
        active_claim::ActiveClaim,
        tool::{self, AttachedPane},
    },
};
use anteroom_screen::{sign_in_finder, truncate_text};
use anteroom_wire::{
    Secret,
    agent::{CliState, KEY_ENTRY_PROMPT_ID, MachineEvent, OpenPrompt, Stage, ToolEvent, UsePurpose},
};
use rustix::{
    fs::{Gid, Uid},
    process::{Pid, Signal},
};
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
};

const LAST_LINES: usize = 20;
/// Exit code reported for a tool whose pane disconnected: 128 + SIGHUP.
const HUNG_UP: i32 = 129;
/// How long the tool may take to read its secret, milliseconds.
const KEY_READ_MS_MAX: u64 = 60_000;
/// After the tool's exit its last output is on the screen when the screen has not changed for this long, milliseconds.
const QUIET_MS: u64 = 200;
/// The longest wait for that, milliseconds: a process that the tool left behind may go on writing.
const QUIET_MS_MAX: u64 = 1_500;
/// Added to the pane's own limits for stopping the tool.
const STOP_MARGIN_MS: u64 = 2_000;

/// Controls one pane until it disconnects, and then starts the next.
pub(crate) async fn control_panes(
    agent: &Arc<Agent>,
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
) -> io::Result<()> {
    agent.terminal.set_pane_connected(true);
    let result = control_one(agent, read, write).await;
    agent.terminal.set_pane_connected(false);
    agent.terminal.restart_pane().await;
    result
}

async fn control_one(agent: &Arc<Agent>, read: BufReader<OwnedReadHalf>, write: OwnedWriteHalf) -> io::Result<()> {
    let mut events = EventReader::new(read);
    tokio::select! {
        _ = agent.claim.wait_claimed() => {}
        // Before the first command a pane sends no event: only its end can come.
        ended = events.next_event() => { ended?; return Ok(()) }
    }
    let pid = write.as_ref().peer_cred()?.pid();
    let pane_pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let (claim, attached) = {
        let _applying = agent.claim.applying.lock().await;
        let Some(claim) = agent.claim.current() else { return Ok(()) };
        (claim, agent.tool.attach_pane(pane_pid))
    };
    let mut session =
        PaneSession { agent, claim: claim.clone(), write, pid: pid.and_then(Pid::from_raw), awaits_key: false };
    let result = session.run(&mut events, attached).await;
    if exec::is_attached(&claim) {
        return result;
    }
    if agent.sign_in.snapshot().cli == CliState::Running {
        record_exit(agent, HUNG_UP).await; // the terminal ended
    }
    agent.credential_use_run.finish(HUNG_UP); // a command that was started is not started again
    result
}

/// One pane, from the claim on.
struct PaneSession<'a> {
    agent: &'a Arc<Agent>,
    claim: Arc<ActiveClaim>,
    write: OwnedWriteHalf,
    pid: Option<Pid>,
    awaits_key: bool,
}

impl PaneSession<'_> {
    async fn run(&mut self, events: &mut EventReader, mut attached: AttachedPane<'_>) -> io::Result<()> {
        self.start_or_wait().await?;
        loop {
            tokio::select! {
                event = events.next_event() => match event? {
                    Some(event) => self.handle_event(event).await?,
                    None => return Ok(()),
                },
                key = self.agent.tool.wait_key(), if self.awaits_key => self.start(Some(key)).await?,
                () = attached.wait_stop_requested() => return self.stop(events).await,
            }
        }
    }

    /// Starts the tool, or waits for its key; again when the user restarts it.
    async fn start_or_wait(&mut self) -> io::Result<()> {
        let purpose = self.claim.use_credential.as_ref().map(|used| used.purpose);
        match (purpose, tool::build_key_prompt(&self.claim, None)) {
            (Some(UsePurpose::Check), _) => self.show_message("Checking whether the tool is signed in.").await,
            (Some(UsePurpose::Exec), _) if exec::is_attached(&self.claim) => {
                self.show_message("The command runs in the terminal of its caller.").await
            }
            (Some(UsePurpose::Exec | UsePurpose::Logout), _) if self.agent.credential_use_run.start() => {
                self.start(None).await
            }
            (Some(UsePurpose::Exec | UsePurpose::Logout), _) => self.show_message("The command has ended.").await,
            (None, Some(prompt)) => {
                self.ask_key(prompt);
                self.show_message("Waiting for the key, which is entered in the page.").await
            }
            (None, None) => self.start(None).await,
        }
    }

    async fn show_message(&mut self, text: &str) -> io::Result<()> {
        send_command(&mut self.write, &PaneCommand::ShowMessage { text: text.to_owned() }, None).await
    }

    fn ask_key(&mut self, prompt: OpenPrompt) {
        self.awaits_key = true;
        self.agent.tool.request_key();
        self.agent.sign_in.open_prompt(prompt);
    }

    async fn start(&mut self, key: Option<Secret>) -> io::Result<()> {
        self.awaits_key = false;
        if key.is_some() {
            self.agent.sign_in.close_prompt(KEY_ENTRY_PROMPT_ID);
        }
        self.agent.tool.set_idle(false);
        self.agent.readiness.record_attempt(Stage::Cli);
        let stdin = key.map(|key| secret_pipe(&self.agent.environment, key)).transpose()?;
        let mut tool = self.agent.build_tool_command(&self.claim.provider);
        if let Some(used) = &self.claim.use_credential {
            tool.argv.clone_from(&used.argv);
        }
        send_command(&mut self.write, &PaneCommand::Start { tool, stdin: stdin.is_some() }, stdin).await
    }

    async fn handle_event(&mut self, event: PaneEvent) -> io::Result<()> {
        let agent = self.agent;
        match event {
            PaneEvent::Started { pid } => {
                agent.cli_pid.send_replace(Some(pid));
                agent.readiness.set_ready(Stage::Cli);
                agent.sign_in.start_run();
                agent.sign_in.set_cli_state(CliState::Running);
                agent.events.push(ToolEvent::Started);
                agent.sign_in.report_early_url();
                Ok(())
            }
            PaneEvent::StartFailed { error } => {
                agent.readiness.record_last_failure(Stage::Cli, &error);
                let name = self.claim.provider.cli.clone();
                let last_lines = vec![truncate_text(&error)];
                agent.events.push(MachineEvent::ChildExited {
                    name: name.into(),
                    code: None,
                    restarts: 0,
                    last_lines: last_lines.into(),
                });
                self.after_exit(&error, EXIT_CODE_NOT_STARTED, None).await
            }
            PaneEvent::Exited { code } => {
                let last_lines = record_exit(agent, code).await;
                let last_line = last_lines.into_iter().rfind(|line| !line.trim().is_empty());
                let name = if self.claim.use_credential.is_some() { "The command" } else { "The tool" };
                let summary =
                    if code == 0 { format!("{name} has ended.") } else { format!("{name} has ended with {code}.") };
                self.after_exit(&summary, code, last_line).await
            }
            PaneEvent::RestartRequested => self.start_or_wait().await,
        }
    }

    /// Shows that the tool ended with `code`, and offers a restart. `last_line`: the last line of its output, masked.
    async fn after_exit(&mut self, summary: &str, code: i32, last_line: Option<String>) -> io::Result<()> {
        self.agent.tool.set_idle(true);
        let (text, offer_restart) = if self.claim.use_credential.is_some() {
            (summary.to_owned(), false)
        } else if let Some(prompt) = tool::build_key_prompt(&self.claim, last_line).filter(|_| code != 0) {
            self.ask_key(prompt);
            (format!("{summary} The key is entered in the page."), false)
        } else {
            (format!("{summary} Press Enter to start it again."), true)
        };
        let sent = send_command(&mut self.write, &PaneCommand::AppendMessage { text, offer_restart }, None).await;
        self.agent.credential_use_run.finish(code);
        sent
    }

    /// Stops the tool and the pane.
    async fn stop(&mut self, events: &mut EventReader) -> io::Result<()> {
        let sent = send_command(&mut self.write, &PaneCommand::Stop, None).await;
        let disconnected = async {
            // Further events are dropped: the tool was stopped on purpose.
            while let Ok(Some(_)) = events.next_event().await {}
        };
        let limit = Duration::from_millis(HANGUP_MS_MAX + TERMINATE_MS_MAX + STOP_MARGIN_MS);
        if tokio::time::timeout(limit, disconnected).await.is_err()
            && let Some(pid) = self.pid
        {
            log::write_line("the pane did not stop and was killed");
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        self.agent.cli_pid.send_replace(None);
        self.agent.sign_in.set_cli_state(CliState::Waiting);
        sent
    }
}

/// Records that the tool has exited. Returns the last lines of its screen, masked.
async fn record_exit(agent: &Agent, code: i32) -> Vec<String> {
    agent.cli_pid.send_replace(None);
    wait_screen_quiet(agent).await;
    let lines = if agent.claim.current().is_some_and(|claim| claim.use_credential.is_some()) {
        // The command's complete output, before the pane adds a message.
        let lines = agent.terminal.read_history().await.unwrap_or_default();
        agent.final_output.send_replace(Some(lines.clone()));
        lines
    } else {
        agent.terminal.read_screen().await.unwrap_or_default()
    };
    let first = lines.len().saturating_sub(LAST_LINES);
    let last_lines: Vec<String> =
        lines[first..].iter().map(|line| truncate_text(&sign_in_finder::mask_secrets(line))).collect();
    agent.sign_in.set_cli_state(CliState::Exited { code });
    agent.events.push(ToolEvent::Exited { code, last_lines: last_lines.clone().into() });
    last_lines
}

/// Waits until the screen no longer changes: a program's exit is often known before tmux has read its last output.
async fn wait_screen_quiet(agent: &Agent) {
    let mut changes = agent.terminal.subscribe_screen_changes();
    let quiet = async {
        loop {
            changes.mark_unchanged();
            if tokio::time::timeout(Duration::from_millis(QUIET_MS), changes.changed()).await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(QUIET_MS_MAX), quiet).await;
}

/// The reading end of a pipe that contains `key` and a line feed. The secret is kept until the tool has read it, at most for the limit.
fn secret_pipe(environment: &ExecutionEnvironment, key: Secret) -> io::Result<OwnedFd> {
    let (read, write) = input_pipe()?;
    if let Some(id) = environment.user_id() {
        // Some programs open /dev/stdin again, for which the pipe must belong to the user.
        rustix::fs::fchown(&read, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
    }
    tokio::spawn(async move {
        let limit = Duration::from_millis(KEY_READ_MS_MAX);
        match tokio::time::timeout(limit, write_secret(write, key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::write_line(&format!("the tool's standard input: {}", error.kind())),
            Err(_) => log::write_line("the tool did not read its standard input"),
        }
    });
    Ok(read)
}

async fn write_secret(mut pipe: pipe::Sender, key: Secret) -> io::Result<()> {
    pipe.write_all(key.expose().as_bytes()).await?;
    pipe.write_all(b"\n").await
}
