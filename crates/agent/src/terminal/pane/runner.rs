//! The pane's own side: does what the agent orders, on the terminal that it shares with the tool.

use super::{END_HANGUP_MS_MAX, END_TERMINATE_MS_MAX, FromPane, Start, ToPane, link::Inbox, tty::Modes};
use crate::{
    children::{self, Child, Children, Tty},
    log,
    shim::{Call, socket_path, write_line},
    supervisor,
};
use rustix::process::{Signal as Kill, getpgrp, getpid};
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

/// Leaves what a full-screen program may have left on: alternate screen, mouse, bracketed paste, colours.
const LEAVE: &str = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\x1b[?25h";
/// The screen and what scrolled off it: the tool begins with nothing above it.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Runs until the terminal or the agent goes, or the agent says so.
pub(crate) fn run() -> ExitCode {
    // It dies with tmux, and the tool dies with it.
    let tied = rustix::process::set_parent_process_death_signal(Some(Kill::KILL));
    let ran = tied.map_err(io::Error::from).and_then(|()| {
        crate::reactor()?.block_on(async {
            let mut pane = Pane::open().await?;
            pane.serve().await
        })
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&format!("pane: {error}"));
            ExitCode::FAILURE
        }
    }
}

struct Pane {
    tty: Modes,
    children: Children,
    agent: UnixStream,
    inbox: Inbox,
    hangups: Signal,
    terminates: Signal,
}

/// What comes to a pane.
enum Came {
    Order(ToPane),
    /// The agent or the terminal is gone, or somebody ends this process.
    End,
}

impl Pane {
    async fn open() -> io::Result<Self> {
        // Ctrl-C is for the tool, which shares this terminal's foreground group. A handled signal, unlike an ignored one,
        // is back to its default in the tool.
        for kind in [SignalKind::interrupt(), SignalKind::quit()] {
            let mut signals = signal(kind)?;
            tokio::spawn(async move { while signals.recv().await.is_some() {} });
        }
        let (hangups, terminates) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
        let tty = Modes::prepare()?;
        let children = Children::new(true)?;
        show(&format!("{CLEAR}{HIDE_CURSOR}\r\n  Preparing…\r\n"));
        let mut agent = UnixStream::connect(socket_path()).await?;
        write_line(&mut agent, &Call::Pane).await?;
        Ok(Self { tty, children, agent, inbox: Inbox::default(), hangups, terminates })
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut enter = false;
        loop {
            let came = tokio::select! {
                came = come(&mut self.inbox, &self.agent, &mut self.hangups, &mut self.terminates) => came?,
                entered = self.tty.enter(), if enter => {
                    entered?;
                    enter = false;
                    write_line(&mut self.agent, &FromPane::Again).await?;
                    continue;
                }
            };
            match came {
                Came::Order(ToPane::Start { start, input }) => {
                    enter = false;
                    let input = if input { Some(self.inbox.input()?) } else { None };
                    if !self.run(&start, input).await? {
                        return Ok(());
                    }
                }
                Came::Order(ToPane::Wait { text }) => {
                    enter = false;
                    show(&format!("{LEAVE}{CLEAR}{HIDE_CURSOR}\r\n  {text}\r\n"));
                }
                Came::Order(ToPane::Say { text, enter: offered }) => {
                    enter = offered;
                    show(&format!("{LEAVE}\r\n{text}\r\n"));
                }
                Came::Order(ToPane::End) | Came::End => return Ok(()),
            }
        }
    }

    /// Runs the tool until it has ended. `false`: it was ended, and this process shall go too.
    async fn run(&mut self, start: &Start, input: Option<OwnedFd>) -> io::Result<bool> {
        self.tty.for_the_tool()?;
        show(&format!("{CLEAR}{SHOW_CURSOR}"));
        let said = match spawn(&self.children, start, input) {
            Ok(mut child) => {
                write_line(&mut self.agent, &FromPane::Started { pid: child.pid() }).await?;
                loop {
                    tokio::select! {
                        code = child.wait() => break FromPane::Exited { code },
                        came = come(&mut self.inbox, &self.agent, &mut self.hangups, &mut self.terminates) => match came? {
                            Came::Order(ToPane::End) | Came::End => {
                                end(&mut child).await?;
                                return Ok(false);
                            }
                            Came::Order(ToPane::Start { .. } | ToPane::Wait { .. } | ToPane::Say { .. }) => {}
                        }
                    }
                }
            }
            Err(error) => {
                let program = start.argv.first().map_or("", String::as_str);
                FromPane::NotStarted { error: format!("{program} could not be started: {error}") }
            }
        };
        self.tty.for_the_pane()?;
        // What stands on the screen stays until the agent has looked and says what to write.
        write_line(&mut self.agent, &said).await?;
        Ok(true)
    }
}

async fn come(
    inbox: &mut Inbox,
    agent: &UnixStream,
    hangups: &mut Signal,
    terminates: &mut Signal,
) -> io::Result<Came> {
    tokio::select! {
        order = inbox.next(agent) => Ok(order?.map_or(Came::End, Came::Order)),
        _ = hangups.recv() => Ok(Came::End),
        _ = terminates.recv() => Ok(Came::End),
    }
}

fn spawn(children: &Children, start: &Start, input: Option<OwnedFd>) -> io::Result<Child> {
    let [program, args @ ..] = &start.argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let path = start.env.get("PATH").map_or("", String::as_str);
    let mut command = children::command(supervisor::find_program(program, path));
    command.args(args).envs(&start.env).current_dir(&start.dir);
    command.stdin(input.map_or_else(Stdio::inherit, Stdio::from));
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    children.spawn(&mut command, Tty::Shared)
}

/// Ends the tool and all of its process group: politely, then not. The group is the pane's own, and goes with it.
async fn end(child: &mut Child) -> io::Result<()> {
    let own_group = getpgrp() == getpid();
    for (signals, ms_max) in
        [(&[Kill::HUP, Kill::CONT][..], END_HANGUP_MS_MAX), (&[Kill::TERM][..], END_TERMINATE_MS_MAX)]
    {
        for &signal in signals {
            if own_group {
                rustix::process::kill_current_process_group(signal)?;
            }
        }
        if tokio::time::timeout(Duration::from_millis(ms_max), child.wait()).await.is_ok() {
            break;
        }
    }
    // Dropping the child kills it; this, what it has left behind.
    if own_group {
        rustix::process::kill_current_process_group(Kill::KILL)?;
    }
    Ok(())
}

fn show(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that went is noticed by the hang-up.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
