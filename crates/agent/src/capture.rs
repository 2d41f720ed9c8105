//! Watches for the credential and delivers it.
//!
//! ```text
//!  waiting ─▶ whole file ─▶ stable? ─▶ status command agrees? ─▶ delivering ─▶ delivered
//!     ▲───────── no ◀─────────┴────────────────┘        │           │ 5xx, no answer: again, for ever
//!     ▲──────── the file changes once more ◀────────────│ refused (4xx)
//!                                                       └─▶ kept, where the policy is that it stays in the machine
//! ```
//!
//! After an answered delivery of a sign-in nobody looks any more: the machine is ended right then. A tool that refreshes its
//! credential before that is heard of: while a delivery has no answer, a newer whole file takes its place. A stored credential that
//! is used is watched as long as its command runs ([`crate::use_credential`]).

mod changes;
mod deliver;
mod status;

pub(crate) use deliver::Outcome;
pub(crate) use status::ask as ask_status;

use crate::{
    agent::Agent,
    claim::Owner,
    credential::{self, Look, Measure, Seen},
    use_credential,
};
use anteroom_wire::{
    agent::{CaptureState, Event},
    provider::StoragePolicy,
};
use changes::Changes;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The backstop: a look without any event.
const LOOK_EVERY_MS: u64 = 1_000;
/// Between two runs of a status command that did not agree.
const STATUS_EVERY_MS: u64 = 2_000;
/// How often a credential waits for files beside it that still change.
const BESIDE_WAITS_MAX: u32 = 5;

/// A whole, stable, new credential.
pub(crate) struct Found {
    path: String,
    seen: Seen,
    beside: Vec<(String, Seen)>,
}

impl Found {
    /// The file that was checked, then those beside it.
    fn files(&self) -> impl Iterator<Item = (&str, &Seen)> {
        let beside = self.beside.iter().map(|(path, seen)| (path.as_str(), seen));
        std::iter::once((self.path.as_str(), &self.seen)).chain(beside)
    }
}

/// What a look at all the paths found.
pub(crate) enum Sight {
    /// Nothing that is new.
    Nothing,
    /// Something that is not a credential, or not yet.
    Unsettled,
    /// A credential.
    Whole(Found),
}

/// What the watch remembers from look to look.
#[derive(Default)]
struct Memory {
    /// Path → cause told last.
    told: HashMap<String, String>,
    /// Path → what was answered last: not to be sent again.
    answered: HashMap<String, [u8; 32]>,
    /// The status command did not agree about this content at this time.
    disagreed: Option<([u8; 32], Instant)>,
    /// How often a credential has waited for the files beside it.
    beside_waits: u32,
}

/// Watches from the claim on until the credential was delivered or kept; a stored one that is used, until its use is over.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let owner = agent.claimed().await;
    if let Some(purpose) = owner.use_credential.as_ref().map(|used| used.purpose) {
        return use_credential::attend(&agent, owner, purpose).await;
    }
    let mut watch = Watch::new(&agent, owner);
    loop {
        watch.follow();
        if let Sight::Whole(mut found) = watch.look().await
            && watch.status_agrees(&found).await
        {
            // The status command may itself have refreshed what it was asked about.
            if watch.superseded(&found) {
                let Sight::Whole(newer) = watch.look().await else { continue };
                found = newer;
            }
            let _held = agent.tool.delivery.lock().await;
            // Another method may have begun meanwhile: its rules count.
            if watch.follow() {
                continue;
            }
            if watch.keep_or_deliver(&found).await {
                return;
            }
        }
        watch.change().await;
    }
}

/// The watch on one owner's credential.
pub(crate) struct Watch<'a> {
    agent: &'a Agent,
    owner: Arc<Owner>,
    memory: Memory,
    changes: Option<Changes>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(agent: &'a Agent, owner: Arc<Owner>) -> Self {
        Self { agent, owner, memory: Memory::default(), changes: Changes::new().ok() }
    }

    /// Goes over to the method that is under way now; whether it is another. What was refused stays refused.
    fn follow(&mut self) -> bool {
        let Some(now) = self.agent.claim_now().filter(|now| !Arc::ptr_eq(now, &self.owner)) else { return false };
        self.owner = now;
        self.memory = Memory { answered: std::mem::take(&mut self.memory.answered), ..Memory::default() };
        true
    }

    /// Waits for a change, or a moment.
    pub(crate) async fn change(&self) {
        let wait = Duration::from_millis(LOOK_EVERY_MS);
        let Some(changes) = &self.changes else { return tokio::time::sleep(wait).await };
        let _ = tokio::time::timeout(wait, changes.next()).await;
    }

    /// The first path that holds a whole credential which has been stable. Rejections are told once per cause, and only when
    /// they too are stable: a file is often half-written for a moment.
    pub(crate) async fn look(&mut self) -> Sight {
        let (agent, owner) = (self.agent, self.owner.clone());
        let rules = &owner.provider.credential;
        if let Some(changes) = &self.changes {
            for path in rules.paths.iter().chain(&rules.beside) {
                changes.watch_near(&agent.place.home, &agent.place.home.join(path));
            }
        }
        let first: Vec<Look> = rules.paths.iter().map(|path| self.look_at(path)).collect();
        let quiet = |(path, look): (&String, &Look)| match look {
            Look::Absent => true,
            Look::Unchanged => self.is_no_news(path),
            Look::Rejected(_) | Look::Whole(_) => false,
        };
        if rules.paths.iter().zip(&first).all(quiet) {
            return Sight::Nothing;
        }
        let beside_first = self.beside();
        tokio::time::sleep(Duration::from_millis(owner.capture.stable_ms)).await;
        for (path, first) in rules.paths.iter().zip(first) {
            match (first, self.look_at(path)) {
                (Look::Whole(first), Look::Whole(again)) if first.stamp == again.stamp => {
                    let beside = self.beside();
                    if !stable(&beside_first, &beside) && self.memory.beside_waits < BESIDE_WAITS_MAX {
                        self.memory.beside_waits += 1;
                        return Sight::Unsettled;
                    }
                    self.memory.beside_waits = 0;
                    return Sight::Whole(Found { path: path.clone(), seen: again, beside: self.taken_along(beside) });
                }
                (Look::Rejected(first), Look::Rejected(again)) if first == again => self.reject(path, again),
                (Look::Unchanged, Look::Unchanged) if !self.is_no_news(path) => {
                    self.reject(path, "the same as before the sign-in".to_owned());
                }
                (Look::Whole(_) | Look::Rejected(_) | Look::Absent | Look::Unchanged, _) => {}
            }
        }
        Sight::Unsettled
    }

    fn look_at(&self, path: &str) -> Look {
        let measure = Measure {
            shape: &self.owner.shape,
            bytes_max: self.owner.capture.file_bytes_max,
            before: self.before(path),
            since: self.since(),
        };
        credential::look(&self.agent.place.home.join(path), &measure)
    }

    /// What does not count at `path`: what the controller has answered, and in a sign-in what stood there at the claim.
    fn before(&self, path: &str) -> Vec<[u8; 32]> {
        let answered = self.memory.answered.get(path).copied();
        let at_the_claim = self.owner.before.get(path).copied().flatten();
        match answered {
            // Here the stored one is the one delivered last, and the first one again is a change.
            Some(answered) if self.owner.use_credential.is_some() => vec![answered],
            answered => answered.into_iter().chain(at_the_claim).collect(),
        }
    }

    /// Whether it needs no telling that the file at `path` has not changed.
    fn is_no_news(&self, path: &str) -> bool {
        self.owner.use_credential.is_some() || self.memory.answered.contains_key(path)
    }

    /// What was laid down is younger than the claim; it is its content that counts.
    fn since(&self) -> Option<std::time::SystemTime> {
        self.owner.use_credential.is_none().then_some(self.owner.claimed_at)
    }

    /// The files beside the credential, as they are now.
    fn beside(&self) -> Vec<(String, Result<Option<Seen>, String>)> {
        let (home, bytes_max) = (&self.agent.place.home, self.owner.capture.file_bytes_max);
        let using = self.owner.use_credential.is_some();
        let look = |path: &String| {
            // A stored credential is replaced as a whole: what belongs to it goes along, changed or not.
            let before = if using { None } else { self.owner.before.get(path).copied().flatten() };
            (path.clone(), credential::beside(&home.join(path), bytes_max, &before, self.since()))
        };
        self.owner.provider.credential.beside.iter().map(look).collect()
    }

    fn taken_along(&mut self, beside: Vec<(String, Result<Option<Seen>, String>)>) -> Vec<(String, Seen)> {
        let mut taken = Vec::new();
        for (path, found) in beside {
            match found {
                Ok(Some(seen)) => taken.push((path, seen)),
                Ok(None) => {}
                Err(why) => self.tell(&path, why),
            }
        }
        taken
    }

    fn reject(&mut self, path: &str, why: String) {
        if self.memory.told.get(path) != Some(&why) {
            self.agent.board.capture(CaptureState::Rejected { path: path.to_owned(), why: why.clone() });
            self.tell(path, why);
        }
    }

    fn tell(&mut self, path: &str, why: String) {
        if self.memory.told.get(path) != Some(&why) {
            self.memory.told.insert(path.to_owned(), why.clone());
            self.agent.events.push(Event::CandidateRejected { path: path.to_owned(), why });
        }
    }

    /// Asks the tool's own status command, where it has one.
    async fn status_agrees(&mut self, found: &Found) -> bool {
        let digest = found.seen.stamp.digest;
        if let Some((about, at)) = self.memory.disagreed
            && about == digest
            && at.elapsed() < Duration::from_millis(STATUS_EVERY_MS)
        {
            return false;
        }
        let owner = self.owner.clone();
        match status::ask(self.agent, &owner).await.signed_in {
            Ok(()) => true,
            Err(why) => {
                self.memory.disagreed = Some((digest, Instant::now()));
                self.reject(&found.path, why);
                false
            }
        }
    }

    /// Whether the watch is over.
    async fn keep_or_deliver(&mut self, found: &Found) -> bool {
        match self.owner.provider.policy {
            StoragePolicy::Store | StoragePolicy::DeliverOnce => match self.deliver(found).await {
                Outcome::Done => true,
                Outcome::Refused | Outcome::Superseded => false,
            },
            StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => {
                self.agent.board.capture(CaptureState::Kept { path: found.path.clone() });
                self.agent.events.push(Event::CredentialKept { path: found.path.clone() });
                true
            }
        }
    }

    /// Hands `found` over. What was answered, well or not, is not sent again.
    pub(crate) async fn deliver(&mut self, found: &Found) -> Outcome {
        let bytes = u64::try_from(found.seen.bytes.len()).unwrap_or(u64::MAX);
        self.agent.events.push(Event::CandidateAccepted { path: found.path.clone(), bytes });
        self.memory.told.clear();
        let outcome = deliver::deliver(self, found).await;
        match outcome {
            Outcome::Done | Outcome::Refused => {
                self.memory.answered.insert(found.path.clone(), found.seen.stamp.digest);
            }
            Outcome::Superseded => {}
        }
        outcome
    }

    /// Whether the path now holds another whole credential (a refreshed token makes the old one worthless).
    fn superseded(&self, found: &Found) -> bool {
        match self.look_at(&found.path) {
            Look::Whole(now) => now.stamp.digest != found.seen.stamp.digest,
            Look::Unchanged | Look::Rejected(_) | Look::Absent => false,
        }
    }
}

fn stable(first: &[(String, Result<Option<Seen>, String>)], again: &[(String, Result<Option<Seen>, String>)]) -> bool {
    let stamp = |found: &Result<Option<Seen>, String>| match found {
        Ok(seen) => Ok(seen.as_ref().map(|seen| seen.stamp.clone())),
        Err(why) => Err(why.clone()),
    };
    first.iter().map(|(_, found)| stamp(found)).eq(again.iter().map(|(_, found)| stamp(found)))
}
