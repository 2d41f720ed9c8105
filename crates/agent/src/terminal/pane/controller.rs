//! The agent's side of a pane: decides what it runs and when, and notes what became of it.

use super::{END_HANGUP_MS_MAX, END_TERMINATE_MS_MAX, FromPane, ToPane, link, link::Lines};
use crate::{
    agent::Agent, children, claim::Owner, events::bounded, finder, log, place::Place, tool, tool::Serving,
    use_credential::NOT_STARTED,
};
use anteroom_wire::{
    Secret,
    agent::{CliState, Event, KEY_ENTRY, OpenPrompt, Stage, UsePurpose},
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
/// What a program that hung up is said to have ended with: 128 + SIGHUP.
const HUNG_UP: i32 = 129;
/// How long the tool may take to read its secret, milliseconds.
const KEY_READ_MS_MAX: u64 = 60_000;
/// A screen that has not changed for this long after the tool's end shows its last words, milliseconds.
const QUIET_MS: u64 = 200;
/// How long that may take, milliseconds: something that the tool left behind may go on writing.
const QUIET_MS_MAX: u64 = 1_500;
/// Beyond the pane's own limits for the tool's end.
const END_SLACK_MS: u64 = 2_000;

/// One pane, until it ends.
pub(crate) async fn attend(
    agent: &Arc<Agent>,
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
) -> io::Result<()> {
    agent.terminal.pane.send_replace(true);
    let served = serve(agent, read, write).await;
    agent.terminal.pane.send_replace(false);
    agent.terminal.restart_pane().await;
    served
}

async fn serve(agent: &Arc<Agent>, read: BufReader<OwnedReadHalf>, write: OwnedWriteHalf) -> io::Result<()> {
    let mut lines = Lines::new(read);
    tokio::select! {
        _ = agent.claimed() => {}
        // Before the start a pane has nothing to say: only its end can come.
        ended = lines.next::<FromPane>() => { ended?; return Ok(()) }
    }
    let pid = write.as_ref().peer_cred()?.pid();
    let pane = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let (owner, serving) = {
        let _one = agent.claiming.lock().await;
        let Some(owner) = agent.claim_now() else { return Ok(()) };
        (owner, agent.tool.serve(pane))
    };
    let mut seat = Seat { agent, owner, write, pid: pid.and_then(Pid::from_raw), awaits_key: false };
    let served = seat.serve(&mut lines, serving).await;
    if agent.board.read().cli == CliState::Running {
        note_end(agent, HUNG_UP).await; // the terminal went
    }
    agent.used.end(HUNG_UP); // and a command that had begun does not begin again
    served
}

/// One pane at its work.
struct Seat<'a> {
    agent: &'a Arc<Agent>,
    owner: Arc<Owner>,
    write: OwnedWriteHalf,
    pid: Option<Pid>,
    awaits_key: bool,
}

impl Seat<'_> {
    async fn serve(&mut self, lines: &mut Lines, mut serving: Serving<'_>) -> io::Result<()> {
        self.begin().await?;
        loop {
            tokio::select! {
                said = lines.next() => match said? {
                    Some(said) => self.hear(said).await?,
                    None => return Ok(()),
                },
                key = self.agent.tool.key_given(), if self.awaits_key => self.start(Some(key)).await?,
                () = serving.ended() => return self.end(lines).await,
            }
        }
    }

    /// What there is to do first, and again after the tool has ended and the person wants more of it.
    async fn begin(&mut self) -> io::Result<()> {
        match (self.owner.use_credential.as_ref().map(|used| used.purpose), tool::key_prompt(&self.owner, None)) {
            (Some(UsePurpose::Check), _) => self.wait("The tool is asked whether its credential is good.").await,
            (Some(UsePurpose::Exec | UsePurpose::Logout), _) if self.agent.used.begin() => self.start(None).await,
            (Some(UsePurpose::Exec | UsePurpose::Logout), _) => self.wait("The command has ended.").await,
            (None, Some(prompt)) => {
                self.ask_key(prompt);
                self.wait("Waiting for the key, which is entered in the page.").await
            }
            (None, None) => self.start(None).await,
        }
    }

    async fn wait(&mut self, text: &str) -> io::Result<()> {
        link::order(&mut self.write, &ToPane::Wait { text: text.to_owned() }, None).await
    }

    fn ask_key(&mut self, prompt: OpenPrompt) {
        self.awaits_key = true;
        self.agent.tool.want_key();
        self.agent.board.open_prompt(prompt);
    }

    async fn start(&mut self, key: Option<Secret>) -> io::Result<()> {
        self.awaits_key = false;
        if key.is_some() {
            self.agent.board.close_prompt(KEY_ENTRY);
        }
        self.agent.tool.rests(false);
        self.agent.stages.trying(Stage::Cli);
        let input = key.map(|key| carry(&self.agent.place, key)).transpose()?;
        let mut start = self.agent.tool_start(&self.owner.provider);
        if let Some(used) = &self.owner.use_credential {
            start.argv.clone_from(&used.argv);
        }
        link::order(&mut self.write, &ToPane::Start { start, input: input.is_some() }, input).await
    }

    async fn hear(&mut self, said: FromPane) -> io::Result<()> {
        let agent = self.agent;
        match said {
            FromPane::Started { pid } => {
                agent.cli_pid.send_replace(Some(pid));
                agent.stages.ready(Stage::Cli);
                agent.board.clear();
                agent.board.cli(CliState::Running);
                agent.events.push(Event::CliStarted);
                agent.board.tell_early();
                Ok(())
            }
            FromPane::NotStarted { error } => {
                agent.stages.failed(Stage::Cli, &error);
                let name = self.owner.provider.cli.clone();
                let last_lines = vec![bounded(&error)];
                agent.events.push(Event::ChildExited { name, code: None, restarts: 0, last_lines });
                self.after(&error, NOT_STARTED, None).await
            }
            FromPane::Exited { code } => {
                let last_lines = note_end(agent, code).await;
                let last_line = last_lines.into_iter().rfind(|line| !line.trim().is_empty());
                let who = if self.owner.use_credential.is_some() { "The command" } else { "The tool" };
                let what =
                    if code == 0 { format!("{who} has ended.") } else { format!("{who} has ended with {code}.") };
                self.after(&what, code, last_line).await
            }
            FromPane::Again => self.begin().await,
        }
    }

    /// What the tool's end leads to: `what` happened, with `code`; `last_line`: its last words, masked.
    async fn after(&mut self, what: &str, code: i32, last_line: Option<String>) -> io::Result<()> {
        self.agent.tool.rests(true);
        let (text, enter) = if self.owner.use_credential.is_some() {
            (what.to_owned(), false)
        } else if let Some(prompt) = tool::key_prompt(&self.owner, last_line).filter(|_| code != 0) {
            self.ask_key(prompt);
            (format!("{what} The key is entered in the page."), false)
        } else {
            (format!("{what} Press Enter to start it again."), true)
        };
        let said = link::order(&mut self.write, &ToPane::Say { text, enter }, None).await;
        self.agent.used.end(code);
        said
    }

    /// Ends the tool, and the pane with it.
    async fn end(&mut self, lines: &mut Lines) -> io::Result<()> {
        let ordered = link::order(&mut self.write, &ToPane::End, None).await;
        let gone = async {
            // Whatever it still says is not told: the tool was ended on purpose.
            while let Ok(Some(_)) = lines.next::<FromPane>().await {}
        };
        let limit = Duration::from_millis(END_HANGUP_MS_MAX + END_TERMINATE_MS_MAX + END_SLACK_MS);
        if tokio::time::timeout(limit, gone).await.is_err()
            && let Some(pid) = self.pid
        {
            log::line("the pane did not end; it is killed");
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        self.agent.cli_pid.send_replace(None);
        self.agent.board.cli(CliState::Waiting);
        ordered
    }
}

/// Notes that the tool has ended; gives the last lines of its screen, masked.
async fn note_end(agent: &Agent, code: i32) -> Vec<String> {
    agent.cli_pid.send_replace(None);
    screen_settled(agent).await;
    let lines = if agent.claim_now().is_some_and(|owner| owner.use_credential.is_some()) {
        // The command's output as it ended, before the pane adds a word.
        let lines = agent.terminal.history().await.unwrap_or_default();
        agent.last_words.send_replace(Some(lines.clone()));
        lines
    } else {
        agent.terminal.screen().await.unwrap_or_default()
    };
    let first = lines.len().saturating_sub(LAST_LINES);
    let last_lines: Vec<String> = lines[first..].iter().map(|line| bounded(&finder::masked(line))).collect();
    agent.board.cli(CliState::Exited { code });
    agent.events.push(Event::CliExited { code, last_lines: last_lines.clone() });
    last_lines
}

/// Waits until the terminal has nothing new to show: a program's end is often known before tmux has read its last words.
async fn screen_settled(agent: &Agent) {
    let mut changes = agent.terminal.changes();
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

/// A pipe that carries `key` and a line feed and then ends; its reading end. The secret is held until the tool has read it, at most
/// for the limit.
fn carry(place: &Place, key: Secret) -> io::Result<OwnedFd> {
    let (read, write) = children::input_pipe()?;
    if let Some(id) = place.person_id() {
        // Some programs open /dev/stdin anew, which is a question of whose it is.
        rustix::fs::fchown(&read, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
    }
    tokio::spawn(async move {
        let limit = Duration::from_millis(KEY_READ_MS_MAX);
        match tokio::time::timeout(limit, pour(write, key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::line(&format!("the tool's standard input: {}", error.kind())),
            Err(_) => log::line("the tool did not read its standard input"),
        }
    });
    Ok(read)
}

async fn pour(mut into: pipe::Sender, key: Secret) -> io::Result<()> {
    into.write_all(key.expose().as_bytes()).await?;
    into.write_all(b"\n").await
}
