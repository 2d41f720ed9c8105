//! The process inside the terminal. It is there before the claim, shows that it prepares, then starts the tool on its
//! own tty, tells the agent how it ends, and starts it again when the person presses Enter.
//!
//! ```text
//!  pane ── "pane" ──▶ agent          (before the claim: nothing happens for a long time)
//!  pane ◀── start{argv, env, dir} ── agent
//!  pane ── started{pid} ──▶ … ── exited{code} ──▶ ◀── noted ──   then Enter, and again from "started"
//! ```

use crate::{
    agent::Agent,
    children::{self, Child, Children, Tty},
    events::bounded,
    finder, log,
    shim::{Call, read_line, socket_path, write_line},
    watched::watched,
};
use anteroom_wire::agent::{CliState, Event, Stage};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{BufReader, Interest, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{SignalKind, signal},
};

/// What the pane shall run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToPane {
    Start(Start),
    Noted,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromPane {
    Started { pid: u32 },
    NotStarted { error: String },
    Exited { code: i32 },
}

/// How long the pane waits for the agent to look at the screen before it writes on it.
const NOTED_MS_MAX: u64 = 3_000;
const LAST_LINES: usize = 20;

/// The agent's side: one pane, until it ends.
pub(crate) async fn attend(
    agent: &Arc<Agent>,
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
) -> io::Result<()> {
    agent.terminal.pane.send_replace(true);
    let served = async {
        let claim = tokio::select! {
            claim = agent.claimed() => claim,
            // Before the start a pane has nothing to say: only its end can come.
            ended = read_line::<FromPane>(&mut read) => { ended?; return Ok(()) }
        };
        agent.stages.trying(Stage::Cli);
        write_line(&mut write, &ToPane::Start(agent.tool_start(&claim.provider))).await?;
        while let Some(said) = read_line(&mut read).await? {
            note(agent, said).await;
            write_line(&mut write, &ToPane::Noted).await?;
        }
        Ok(())
    };
    let ended = served.await;
    agent.terminal.pane.send_replace(false);
    if agent.board.read().cli == CliState::Running {
        note(agent, FromPane::Exited { code: 129 }).await; // the terminal went: hang-up
    }
    agent.terminal.restart_pane().await;
    ended
}

async fn note(agent: &Agent, said: FromPane) {
    match said {
        FromPane::Started { pid } => {
            agent.cli_pid.send_replace(Some(pid));
            agent.board.cli(CliState::Running);
            agent.stages.ready(Stage::Cli);
            agent.events.push(Event::CliStarted);
        }
        FromPane::NotStarted { error } => {
            agent.stages.failed(Stage::Cli, &error);
            let name = agent.claim_now().map_or_else(String::new, |claim| claim.provider.cli.clone());
            let last_lines = vec![bounded(&error)];
            agent.events.push(Event::ChildExited { name, code: None, restarts: 0, last_lines });
        }
        FromPane::Exited { code } => {
            agent.cli_pid.send_replace(None);
            let lines = agent.terminal.screen().await.unwrap_or_default();
            let first = lines.len().saturating_sub(LAST_LINES);
            let last_lines = lines[first..].iter().map(|line| bounded(&finder::masked(line))).collect();
            agent.board.cli(CliState::Exited { code });
            agent.events.push(Event::CliExited { code, last_lines });
        }
    }
}

/// The pane's own side: runs until the terminal or the agent goes.
pub(crate) fn run() -> ExitCode {
    // It dies with tmux, and the tool dies with it.
    let tied = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let ran = tied.map_err(io::Error::from).and_then(|()| crate::reactor()?.block_on(serve()));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&format!("pane: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> io::Result<()> {
    // Ctrl-C is for the tool, which shares this terminal's foreground group. A handled signal, unlike an ignored one,
    // is back to its default in the tool.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut quits = signal(SignalKind::quit())?;
    tokio::spawn(async move { while interrupts.recv().await.is_some() {} });
    tokio::spawn(async move { while quits.recv().await.is_some() {} });
    let tty = Modes::prepare()?;
    let children = Children::new(true)?;
    show("\x1b[2J\x1b[H\x1b[?25l\r\n  Preparing…\r\n");
    let (read, mut write) = UnixStream::connect(socket_path()).await?.into_split();
    let mut read = BufReader::new(read);
    write_line(&mut write, &Call::Pane).await?;
    let start = match read_line(&mut read).await? {
        Some(ToPane::Start(start)) => start,
        Some(ToPane::Noted) | None => return Ok(()),
    };
    loop {
        tty.for_the_tool()?;
        show("\x1b[2J\x1b[H\x1b[?25h");
        let said = match tool(&children, &start) {
            Ok(mut child) => {
                tell(&mut read, &mut write, &FromPane::Started { pid: child.pid() }).await?;
                FromPane::Exited { code: child.wait().await }
            }
            Err(error) => {
                let program = start.argv.first().map_or("", String::as_str);
                FromPane::NotStarted { error: format!("{program} could not be started: {error}") }
            }
        };
        tell(&mut read, &mut write, &said).await?;
        tty.for_the_pane()?;
        let what = match &said {
            FromPane::Exited { code: 0 } => "The tool has ended.".to_owned(),
            FromPane::Exited { code } => format!("The tool has ended with {code}."),
            FromPane::NotStarted { error } => error.clone(),
            FromPane::Started { .. } => String::new(),
        };
        // Leave what a full-screen program may have left on: alternate screen, mouse, bracketed paste, colours.
        show(&format!(
            "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\x1b[?25h\r\n{what} Press Enter to start it again.\r\n"
        ));
        tty.enter().await?;
    }
}

async fn tell(read: &mut BufReader<OwnedReadHalf>, write: &mut OwnedWriteHalf, said: &FromPane) -> io::Result<()> {
    write_line(write, said).await?;
    let noted = tokio::time::timeout(Duration::from_millis(NOTED_MS_MAX), read_line::<ToPane>(read)).await;
    match noted {
        Ok(Ok(Some(_))) | Err(_) => Ok(()),
        Ok(Ok(None)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
    }
}

fn tool(children: &Children, start: &Start) -> io::Result<Child> {
    let [program, args @ ..] = &start.argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let path = start.env.get("PATH").map_or("", String::as_str);
    let mut command = children::command(crate::supervisor::find_program(program, path));
    command.args(args).envs(&start.env).current_dir(&start.dir);
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    children.spawn(&mut command, Tty::Shared)
}

fn show(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that went is noticed by the hang-up.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The terminal's modes: as they were for the tool, without echo for the pane.
struct Modes {
    tool: Termios,
    readable: AsyncFd<std::os::fd::OwnedFd>,
}

impl Modes {
    fn prepare() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let mut tool = rustix::termios::tcgetattr(stdin)?;
        // Nobody could bring a stopped tool back: there is no shell.
        tool.special_codes[SpecialCodeIndex::VSUSP] = 0;
        let readable = watched(rustix::io::dup(stdin)?, Interest::READABLE)?;
        let tty = Self { tool, readable };
        tty.for_the_pane()?;
        Ok(tty)
    }

    fn for_the_pane(&self) -> io::Result<()> {
        let mut quiet = self.tool.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        Ok(rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?)
    }

    /// What was typed before is not the tool's.
    fn for_the_tool(&self) -> io::Result<()> {
        let stdin = rustix::stdio::stdin();
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &self.tool)?;
        Ok(rustix::termios::tcflush(stdin, QueueSelector::IFlush)?)
    }

    /// Waits for a whole line. The descriptor stays blocking, as the tool shares it: only a readable one is read.
    async fn enter(&self) -> io::Result<()> {
        rustix::termios::tcflush(rustix::stdio::stdin(), QueueSelector::IFlush)?;
        loop {
            let mut ready = self.readable.readable().await?;
            ready.clear_ready();
            let mut look = [PollFd::new(self.readable.get_ref(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut look, Some(&now)).map_err(io::Error::from)? == 0 {
                continue; // the readiness was of bytes that the tool has read
            }
            let mut line = [0; 1024];
            let n = rustix::io::read(self.readable.get_ref(), &mut line)?;
            if n == 0 || line[..n].contains(&b'\n') {
                return Ok(());
            }
        }
    }
}
