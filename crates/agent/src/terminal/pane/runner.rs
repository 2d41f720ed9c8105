//! The pane process: executes the agent's commands, on the terminal that it shares with the tool.

use super::{HANGUP_MS_MAX, PaneCommand, PaneEvent, TERMINATE_MS_MAX, ipc::CommandReader, tty::SharedTty};
use crate::{
    log,
    platform::{
        local_socket::{LocalRequest, socket_path, write_line},
        process::{self, find_program},
        process_table::{Child, ChildTty, ProcessTable},
    },
    sign_in::tool::ToolCommand,
};
use rustix::process::{Signal as KillSignal, getpgrp, getpid};
use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    process::{ExitCode, Stdio},
    time::Duration,
};
use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
};

/// Resets what a full-screen program may have left on: alternate screen, mouse, bracketed paste, colours.
const RESET_MODES: &str = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\x1b[?25h";
/// Clears the screen and the scrollback: the tool starts with nothing above it.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Runs until the terminal or the agent ends, or the agent stops it.
pub(crate) fn run_pane() -> ExitCode {
    // The pane dies with tmux, and the tool dies with the pane.
    let tied = rustix::process::set_parent_process_death_signal(Some(KillSignal::KILL));
    let result = tied.map_err(io::Error::from).and_then(|()| {
        process::new_async_runtime()?.block_on(async {
            let mut pane = Pane::open().await?;
            pane.serve().await
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::write_line(&format!("pane: {error}"));
            ExitCode::FAILURE
        }
    }
}

struct Pane {
    tty: SharedTty,
    processes: ProcessTable,
    agent: UnixStream,
    commands: CommandReader,
    hangups: Signal,
    terminates: Signal,
}

/// What a pane reacts to.
enum PaneInput {
    Command(PaneCommand),
    /// The agent or the terminal has ended, or this process got a signal.
    Shutdown,
}

impl Pane {
    async fn open() -> io::Result<Self> {
        // Ctrl-C is for the tool, which is in this terminal's foreground group too. The signal is handled here and not ignored: a handled
        // signal has its default action again in the tool.
        for kind in [SignalKind::interrupt(), SignalKind::quit()] {
            let mut signals = signal(kind)?;
            tokio::spawn(async move { while signals.recv().await.is_some() {} });
        }
        let (hangups, terminates) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
        let tty = SharedTty::set_up_stdin()?;
        let processes = ProcessTable::new(true)?;
        show(&format!("{CLEAR}{HIDE_CURSOR}\r\n  Preparing…\r\n"));
        let mut agent = UnixStream::connect(socket_path()).await?;
        write_line(&mut agent, &LocalRequest::Pane).await?;
        Ok(Self { tty, processes, agent, commands: CommandReader::default(), hangups, terminates })
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut offer_restart = false;
        loop {
            let input = tokio::select! {
                input = next_input(&mut self.commands, &self.agent, &mut self.hangups, &mut self.terminates) => input?,
                entered = self.tty.wait_enter(), if offer_restart => {
                    entered?;
                    offer_restart = false;
                    write_line(&mut self.agent, &PaneEvent::RestartRequested).await?;
                    continue;
                }
            };
            match input {
                PaneInput::Command(PaneCommand::Start { tool, stdin }) => {
                    offer_restart = false;
                    let stdin = if stdin { Some(self.commands.take_descriptor()?) } else { None };
                    if !self.run_tool(&tool, stdin).await? {
                        return Ok(());
                    }
                }
                PaneInput::Command(PaneCommand::ShowMessage { text }) => {
                    offer_restart = false;
                    show(&format!("{RESET_MODES}{CLEAR}{HIDE_CURSOR}\r\n  {text}\r\n"));
                }
                PaneInput::Command(PaneCommand::AppendMessage { text, offer_restart: offer }) => {
                    offer_restart = offer;
                    show(&format!("{RESET_MODES}\r\n{text}\r\n"));
                }
                PaneInput::Command(PaneCommand::Stop) | PaneInput::Shutdown => return Ok(()),
            }
        }
    }

    /// Runs the tool until it has exited. `false`: it was stopped, and this process must exit too.
    async fn run_tool(&mut self, tool: &ToolCommand, stdin: Option<OwnedFd>) -> io::Result<bool> {
        self.tty.set_tool_mode()?;
        show(&format!("{CLEAR}{SHOW_CURSOR}"));
        let event = match spawn(&self.processes, tool, stdin) {
            Ok(mut child) => {
                write_line(&mut self.agent, &PaneEvent::Started { pid: child.pid() }).await?;
                let Some(code) = self.wait_exit(&mut child).await? else { return Ok(false) };
                PaneEvent::Exited { code }
            }
            Err(error) => {
                let program = tool.argv.first().map_or("", String::as_str);
                PaneEvent::StartFailed { error: format!("{program} could not be started: {error}") }
            }
        };
        self.tty.set_pane_mode()?;
        // The screen is not changed before the agent has read it and sends a message.
        write_line(&mut self.agent, &event).await?;
        Ok(true)
    }

    /// Waits for the tool's exit; `None`: it was stopped.
    async fn wait_exit(&mut self, child: &mut Child) -> io::Result<Option<i32>> {
        loop {
            tokio::select! {
                code = child.wait() => return Ok(Some(code)),
                input = next_input(&mut self.commands, &self.agent, &mut self.hangups, &mut self.terminates) => match input? {
                    PaneInput::Command(PaneCommand::Stop) | PaneInput::Shutdown => {
                        stop(child).await?;
                        return Ok(None);
                    }
                    PaneInput::Command(
                        PaneCommand::Start { .. } | PaneCommand::ShowMessage { .. } | PaneCommand::AppendMessage { .. },
                    ) => {}
                }
            }
        }
    }
}

async fn next_input(
    commands: &mut CommandReader,
    agent: &UnixStream,
    hangups: &mut Signal,
    terminates: &mut Signal,
) -> io::Result<PaneInput> {
    tokio::select! {
        command = commands.next_command(agent) => Ok(command?.map_or(PaneInput::Shutdown, PaneInput::Command)),
        _ = hangups.recv() => Ok(PaneInput::Shutdown),
        _ = terminates.recv() => Ok(PaneInput::Shutdown),
    }
}

fn spawn(processes: &ProcessTable, tool: &ToolCommand, stdin: Option<OwnedFd>) -> io::Result<Child> {
    let [program, args @ ..] = &tool.argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let path = tool.env.get("PATH").map_or("", String::as_str);
    let mut command = process::new_command(find_program(program, path));
    command.args(args).envs(&tool.env).current_dir(&tool.dir);
    command.stdin(stdin.map_or_else(Stdio::inherit, Stdio::from));
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    processes.spawn(&mut command, ChildTty::Shared)
}

/// Stops the tool and its whole process group with SIGHUP, then SIGTERM, then SIGKILL. This process is in the group too, and is killed
/// with it.
async fn stop(child: &mut Child) -> io::Result<()> {
    let leads_group = getpgrp() == getpid();
    for (signals, ms_max) in
        [(&[KillSignal::HUP, KillSignal::CONT][..], HANGUP_MS_MAX), (&[KillSignal::TERM][..], TERMINATE_MS_MAX)]
    {
        for &signal in signals {
            if leads_group {
                rustix::process::kill_current_process_group(signal)?;
            }
        }
        if tokio::time::timeout(Duration::from_millis(ms_max), child.wait()).await.is_ok() {
            break;
        }
    }
    // Dropping the child kills the child; this kills the processes that it left behind.
    if leads_group {
        rustix::process::kill_current_process_group(KillSignal::KILL)?;
    }
    Ok(())
}

fn show(text: &str) {
    let mut out = io::stdout().lock();
    // A closed terminal is detected by the hang-up.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
