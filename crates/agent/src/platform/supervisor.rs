//! Keeps programs up: each with its own back-off, restart count and last lines of output. What counts as a loop of crashes:
//! `ends.rs`.
//!
//! The bounds of both are constants on purpose: programs are kept up from the boot on, while the template is made, when nobody has
//! told the agent anything but the kernel's command line (see `memory.rs`). They belong to the programs of the image, which comes
//! with the agent, not to a host or an operator.

use crate::{
    agent::Agent,
    backoff::Backoff,
    children::{self, Child, Children, Tty},
    ends::Ends,
    place::Place,
};
use anteroom_wire::agent::Stage;
use std::{
    collections::VecDeque,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, sync::Notify};

const LINES_MAX: usize = 20;
const LINE_CHARS_MAX: usize = 400;
const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 10_000;
/// How long the last words of a program that has ended may take.
const LAST_WORDS_MS_MAX: u64 = 1_000;
/// A program that ran this long did not fail at its start.
const HELD_MS: u64 = 10_000;

/// The last lines a program wrote, of both its streams.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Lines>>, Arc<Notify>);

#[derive(Default)]
struct Lines {
    ended: bool,
    whole: VecDeque<String>,
    rest: String,
}

impl Output {
    /// Starts `command` with its output captured and nothing to read.
    pub(crate) fn capture(&self, children: &Children, command: &mut Command) -> io::Result<Child> {
        let (mut from, to) = children::output_pipe()?;
        command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        let child = children.spawn(command, Tty::None)?;
        // The command holds the writing ends; with these, the end of the output would never be seen.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let output = self.clone();
        tokio::spawn(async move {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buf).await {
                output.add(&String::from_utf8_lossy(&buf[..n]));
            }
            output.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            output.1.notify_waiters();
        });
        Ok(child)
    }

    /// Waits until all that was written is here: a program's end is often known before its last words. At most `limit`,
    /// since a descendant may hold the stream open.
    pub(crate) async fn ended(&self, limit: Duration) {
        let ended = self.1.notified();
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).ended {
            let _ = tokio::time::timeout(limit.min(Duration::from_millis(LAST_WORDS_MS_MAX)), ended).await;
        }
    }

    fn add(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for c in text.chars() {
            if c == '\n' {
                let line = std::mem::take(&mut lines.rest);
                if lines.whole.len() == LINES_MAX {
                    lines.whole.pop_front();
                }
                lines.whole.push_back(line);
            } else if !c.is_control() && lines.rest.len() < LINE_CHARS_MAX {
                lines.rest.push(c);
            }
        }
    }

    /// What is kept, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = (!lines.rest.is_empty()).then(|| lines.rest.clone());
        lines.whole.iter().cloned().chain(rest).filter(|line| !line.trim().is_empty()).collect()
    }
}

/// The program's file, looked up in `path` as the shell would. Not found: the name itself, whose start then fails by
/// that name.
pub(crate) fn find_program(name: &str, path: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let candidates = path.split(':').map(|dir| Path::new(dir).join(name));
    candidates.into_iter().find(|file| file.is_file()).unwrap_or_else(|| name.into())
}

/// Lets `command` run as the person, where there is one.
pub(crate) fn become_person(command: &mut Command, place: &Place) {
    if let Some(id) = place.person_id() {
        command.uid(id).gid(id);
    }
}

/// A program that shall always run.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// The stage it serves: told of its failures.
    pub(crate) stage: Stage,
    /// The stage that must be up before it is started.
    pub(crate) needs: Option<Stage>,
    pub(crate) command: Box<dyn Fn() -> Command + Send + Sync>,
}

/// Keeps `service` up, for ever.
pub(crate) async fn keep(agent: Arc<Agent>, service: Service) {
    let mut backoff = Backoff::new(
        Duration::from_millis(RESTART_MS_MIN),
        Duration::from_millis(RESTART_MS_MAX),
        Duration::from_millis(HELD_MS),
    );
    let ends = Ends::new(service.name, service.stage);
    loop {
        if let Some(stage) = service.needs {
            agent.stages.reached(stage).await;
        }
        agent.stages.trying(service.stage);
        let started = Instant::now();
        let output = Output::default();
        let ended = match output.capture(&agent.children, &mut (service.command)()) {
            Ok(mut child) => {
                ends.up();
                Ok(child.wait().await)
            }
            Err(error) => Err(error),
        };
        output.ended(Duration::MAX).await;
        ends.tell(&agent, &ended, &output);
        tokio::time::sleep(backoff.after(started.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_keeps_its_last_lines_and_bounds_them() {
        let output = Output::default();
        for n in 0..100 {
            output.add(&format!("line {n}\nhalf"));
            output.add(&format!(" of {}\r\n", "x".repeat(10_000)));
        }
        output.add("tail");
        let lines = output.last_lines();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], "tail");
        assert_eq!(lines[LINES_MAX - 2], "line 99");
        assert!(lines.iter().all(|line| line.len() <= LINE_CHARS_MAX));
    }

    #[test]
    fn a_program_is_found_in_the_path_given_and_not_in_ours() {
        assert_eq!(find_program("sh", "/nowhere:/bin"), PathBuf::from("/bin/sh"));
        assert_eq!(find_program("sh", "/nowhere"), PathBuf::from("sh"));
        assert_eq!(find_program("/x/y", "/bin"), PathBuf::from("/x/y"));
    }
}
