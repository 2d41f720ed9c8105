//! A stored credential in use: its files are laid down before anything starts, then one command runs, once.
//!
//! ```text
//!  claim ─▶ files laid down ─▶ exec, logout: the command in the pane ─▶ ended ─▶ last look ─▶ use over
//!                         └──▶ check: the status command, no terminal ─▶ checked ──▲
//!           exec: whatever the tool changes meanwhile is delivered at once, again and again
//! ```
//!
//! A tool refreshes its credential when it likes, and a refreshed one often makes the old one worthless: so a change is delivered as
//! soon as it is whole and stable, and the use is over only when the last one was answered. What the tool deletes is not an error:
//! nothing is delivered then. The tool's status command is not asked about a refresh: it has been signed in all the while.

mod check;

use crate::{
    agent::Agent,
    capture::{Found, Outcome, Sight, Watch},
    claim::Owner,
    settings_file,
};
use anteroom_wire::{
    agent::{Claim, Event, Use, UsePurpose},
    provider::StoragePolicy,
};
use std::{io, sync::Arc};
use tokio::sync::watch;

/// Looks after the command's end at what is not a whole credential: a child of the tool may still be writing.
const LAST_LOOKS_MAX: u32 = 5;
/// What a command that could not be started is said to have ended with, as a shell would.
pub(crate) const NOT_STARTED: i32 = 127;

/// How far the one command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Begun,
    Over { code: i32 },
}

/// The course of the one command.
pub(crate) struct Course(watch::Sender<Stage>);

impl Course {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Stage::Waiting))
    }

    /// `true` the first time: the command shall be started now, and never again.
    pub(crate) fn begin(&self) -> bool {
        self.0.send_if_modified(|stage| {
            let first = *stage == Stage::Waiting;
            if first {
                *stage = Stage::Begun;
            }
            first
        })
    }

    /// The command has ended with `code`; `false`: it has not begun, or its end was known.
    pub(crate) fn end(&self, code: i32) -> bool {
        self.0.send_if_modified(|stage| {
            let runs = *stage == Stage::Begun;
            if runs {
                *stage = Stage::Over { code };
            }
            runs
        })
    }

    /// Waits for its end.
    async fn over(&self) -> i32 {
        let mut stage = self.0.subscribe();
        loop {
            if let Stage::Over { code } = *stage.borrow_and_update() {
                return code;
            }
            if stage.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// What is wrong with the use that a claim asks for.
pub(crate) fn faults(claim: &Claim) -> Vec<String> {
    let Some(used) = &claim.use_credential else { return Vec::new() };
    let rules = &claim.provider.credential;
    let mut faults = Vec::new();
    let mut need = |good: bool, what: String| {
        if !good {
            faults.push(what);
        }
    };
    let stored = match claim.provider.policy {
        StoragePolicy::Store | StoragePolicy::DeliverOnce => true,
        StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => false,
    };
    need(stored, "use_credential: the provider's policy is not to store one".to_owned());
    let whole = used.files.iter().any(|file| rules.paths.contains(&file.path));
    need(whole, "use_credential.files: none of them is at one of the credential's paths".to_owned());
    for (at, file) in used.files.iter().enumerate() {
        let place = format!("use_credential.files[{at}] {:?}", file.path);
        let known = rules.paths.contains(&file.path) || rules.beside.contains(&file.path);
        need(known, format!("{place}: not one of the credential's paths"));
        let once = !used.files[..at].iter().any(|before| before.path == file.path);
        need(once, format!("{place}: is there twice"));
        let size = u64::try_from(file.content.expose().len()).unwrap_or(u64::MAX);
        need(size <= claim.capture.file_bytes_max, format!("{place}: larger than capture.file_bytes_max"));
    }
    let named = used.argv.first().is_some_and(|program| !program.is_empty());
    match used.purpose {
        UsePurpose::Exec | UsePurpose::Logout => need(named, "use_credential.argv names no program".to_owned()),
        UsePurpose::Check => {
            need(used.argv.is_empty(), "use_credential.argv: a check has none".to_owned());
            need(!rules.status_argv.is_empty(), "use_credential: the provider has no status command".to_owned());
        }
    }
    faults
}

/// Lays the credential's files down, byte for byte, in the place of whatever stands there.
///
/// # Errors
/// The first that cannot be written, with its path.
pub(crate) fn lay_down(agent: &Agent, used: &Use) -> io::Result<()> {
    used.files
        .iter()
        .try_for_each(|file| settings_file::put(&agent.place, &file.path, file.content.expose(), file.mode))
}

/// Attends one use until it is over.
pub(crate) async fn attend(agent: &Agent, owner: Arc<Owner>, purpose: UsePurpose) {
    let (code, changed) = match purpose {
        UsePurpose::Exec => {
            let mut delivered = Delivered { watch: Watch::new(agent, owner), changed: false };
            let code = delivered.meanwhile(agent).await;
            (code, delivered.last().await)
        }
        UsePurpose::Check => {
            let delivered = Delivered { watch: Watch::new(agent, owner.clone()), changed: false };
            let code = check::ask(agent, &owner).await;
            (code, delivered.last().await)
        }
        UsePurpose::Logout => (agent.used.over().await, false),
    };
    agent.events.push(Event::UseOver { code, changed });
}

/// Delivers what the tool changes.
struct Delivered<'a> {
    watch: Watch<'a>,
    changed: bool,
}

impl Delivered<'_> {
    /// As long as the command runs; its exit code.
    async fn meanwhile(&mut self, agent: &Agent) -> i32 {
        loop {
            while let Sight::Whole(found) = self.watch.look().await {
                self.hand_over(&found).await;
            }
            tokio::select! {
                code = agent.used.over() => return code,
                () = self.watch.change() => {}
            }
        }
    }

    /// After it; whether the tool has changed its credential at any time.
    async fn last(mut self) -> bool {
        let mut looks = 0;
        while looks < LAST_LOOKS_MAX {
            match self.watch.look().await {
                Sight::Whole(found) => self.hand_over(&found).await,
                Sight::Unsettled => looks += 1,
                Sight::Nothing => break,
            }
        }
        self.changed
    }

    async fn hand_over(&mut self, found: &Found) {
        self.changed = true;
        match self.watch.deliver(found).await {
            // What superseded it is found by the next look.
            Outcome::Done | Outcome::Refused | Outcome::Superseded => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_begins_once_and_ends_once() {
        let course = Course::new();
        assert!(!course.end(1), "not begun");
        assert!(course.begin() && !course.begin());
        assert!(course.end(3) && !course.end(4));
        assert_eq!(course.over().await, 3);
    }
}
