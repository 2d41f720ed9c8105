//! Watches for the credential and delivers it.
//!
//! ```text
//!  waiting ─▶ complete file ─▶ stable? ─▶ usable? ─▶ status command confirms? ─▶ delivering ─▶ delivered
//!     ▲─────────── no ◀───────────┴──────────┴───────────────────┘     │            │ 5xx, no answer: again, forever
//!     ▲──────────── the file changes again ◀───────────────────────────│ rejected (4xx)
//!                                                                      └─▶ kept, if the policy is to keep it in the machine
//! ```
//!
//! The watch ends when the delivery of a sign-in is answered, since the machine is stopped then. A tool may refresh its credential before
//! that: while a delivery has no answer, a newer complete file replaces it. A stored credential that is used is watched as long as its
//! command runs ([`crate::use_credential`]).

use super::{
    credential_file::{self, CheckResult, CheckRules, FileSnapshot},
    deliver::{self, DeliveryOutcome},
    file_watch::FileWatch,
    rejection::Rejection,
    status_command, written_files,
};
use crate::{agent::Agent, sign_in::active_claim::ActiveClaim};
use anteroom_wire::{
    Base64,
    agent::{CaptureEvent, CaptureState, DeliveredFile, SignInOutcome},
    provider::StoragePolicy,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The files are scanned at least this often, also without a change event.
const SCAN_EVERY_MS: u64 = 1_000;
/// The least time between two runs of a status command that did not confirm the credential.
const STATUS_EVERY_MS: u64 = 2_000;
/// A credential that the tool does not show to be usable is reported after this time.
const NOT_USABLE_REPORT_MS: u64 = 10_000;
/// The absence of every file is reported this long after the tool has shown that it is signed in.
const NOT_FOUND_REPORT_MS: u64 = 10_000;
/// How often a credential waits for companion files that still change.
const COMPANION_WAITS_MAX: u32 = 5;

/// A companion file: its path, and its content if it counts, or why it is not delivered.
type Companion = (String, Result<Option<FileSnapshot>, Rejection>);

/// A complete, stable, new credential.
pub(crate) struct FoundCredential {
    path: String,
    file: FileSnapshot,
    companions: Vec<(String, FileSnapshot)>,
}

impl FoundCredential {
    /// The file that was checked, then its companions.
    fn files(&self) -> Vec<DeliveredFile> {
        let companions = self.companions.iter().map(|(path, file)| (path.as_str(), file));
        let files = std::iter::once((self.path.as_str(), &self.file)).chain(companions);
        files
            .map(|(path, file)| DeliveredFile {
                path: path.to_owned(),
                mode: file.mode,
                content: Base64::new(file.bytes.clone()),
            })
            .collect()
    }
}

/// The result of a scan of all paths.
pub(crate) enum FindResult {
    /// Nothing new.
    Nothing,
    /// A file that is not a credential, or not yet.
    Incomplete,
    /// A credential.
    Found(FoundCredential),
}

/// What the watch remembers between scans.
#[derive(Default)]
struct WatchState {
    /// Path → the reason that was last reported.
    reported: HashMap<String, Rejection>,
    /// Path → the content that the controller has answered, which is not sent again.
    answered: HashMap<String, [u8; 32]>,
    /// The content that the status command did not confirm, and when.
    unconfirmed: Option<([u8; 32], Instant)>,
    /// How often a credential has waited for its companions.
    companion_waits: u32,
    /// Since when a complete credential waits for the tool to show that it can work with it.
    not_usable_since: Option<Instant>,
    /// Since when the tool has shown that it is signed in, and no file is there.
    not_found_since: Option<Instant>,
}

/// Watches until the credential of `claim` was delivered or kept.
pub(crate) async fn watch_credential(agent: &Agent, claim: Arc<ActiveClaim>) {
    let mut watch = CredentialWatch::new(agent, claim);
    loop {
        watch.follow_changed_method();
        let outcome = watch.agent.sign_in.snapshot().outcome;
        let found = watch.find_stable_credential().await;
        watch.report_missing(outcome.as_ref()).await;
        if let FindResult::Found(mut found) = found
            && watch.is_usable(&found, outcome.as_ref())
            && watch.status_confirms(&found).await
        {
            // The status command itself may have refreshed the credential, and takes long enough for the tool to write companions.
            if watch.is_superseded(&found) {
                let FindResult::Found(newer) = watch.find_stable_credential().await else { continue };
                found = newer;
            }
            let _delivery = agent.tool.delivery_lock.lock().await;
            // If the method has changed in the meantime, the new method's rules apply.
            if watch.follow_changed_method() {
                continue;
            }
            if watch.keep_or_deliver(&found).await {
                return;
            }
        }
        tokio::select! {
            () = watch.wait_change() => {}
            () = watch.agent.sign_in.wait_outcome_change(outcome) => {}
        }
    }
}

/// The watch on the credential of one claim.
pub(crate) struct CredentialWatch<'a> {
    agent: &'a Agent,
    claim: Arc<ActiveClaim>,
    state: WatchState,
    file_watch: Option<FileWatch>,
}

impl<'a> CredentialWatch<'a> {
    pub(crate) fn new(agent: &'a Agent, claim: Arc<ActiveClaim>) -> Self {
        Self { agent, claim, state: WatchState::default(), file_watch: FileWatch::new().ok() }
    }

    /// Switches to the active method. Returns whether it has changed. A credential that was rejected stays rejected.
    fn follow_changed_method(&mut self) -> bool {
        let active = self.agent.claim.current().filter(|active| !Arc::ptr_eq(active, &self.claim));
        let Some(active) = active else { return false };
        self.claim = active;
        self.state = WatchState { answered: std::mem::take(&mut self.state.answered), ..WatchState::default() };
        true
    }

    /// Waits for a change of the files, at most for [`SCAN_EVERY_MS`].
    pub(crate) async fn wait_change(&self) {
        let wait = Duration::from_millis(SCAN_EVERY_MS);
        let Some(file_watch) = &self.file_watch else { return tokio::time::sleep(wait).await };
        let _ = tokio::time::timeout(wait, file_watch.wait_changed()).await;
    }

    /// The first path that contains a complete credential which has been stable. Rejections are reported once for each reason, and only
    /// when they are stable too: a file is often half-written for a moment.
    pub(crate) async fn find_stable_credential(&mut self) -> FindResult {
        let claim = self.claim.clone();
        let paths = &claim.provider.credential.paths;
        self.watch_directories();
        let first: Vec<CheckResult> = paths.iter().map(|path| self.read_file(path)).collect();
        let is_quiet = |(path, result): (&String, &CheckResult)| match result {
            CheckResult::Absent => true,
            CheckResult::Unchanged => self.ignores_unchanged(path),
            CheckResult::Rejected(_) | CheckResult::Complete(_) => false,
        };
        if paths.iter().zip(&first).all(is_quiet) {
            return FindResult::Nothing;
        }
        let companions_before = self.companions();
        tokio::time::sleep(Duration::from_millis(claim.capture_limits.stable_ms)).await;
        for (path, first) in paths.iter().zip(first) {
            match (first, self.read_file(path)) {
                (CheckResult::Complete(first), CheckResult::Complete(file)) if first.stamp == file.stamp => {
                    return self.with_companions(path, file, &companions_before);
                }
                (CheckResult::Rejected(first), CheckResult::Rejected(reason)) if first == reason => {
                    self.publish_rejection(path, reason);
                }
                (CheckResult::Unchanged, CheckResult::Unchanged) if !self.ignores_unchanged(path) => {
                    self.publish_rejection(path, Rejection::SameAsBefore);
                }
                (
                    CheckResult::Complete(_) | CheckResult::Rejected(_) | CheckResult::Absent | CheckResult::Unchanged,
                    _,
                ) => {}
            }
        }
        FindResult::Incomplete
    }

    fn watch_directories(&self) {
        let rules = &self.claim.provider.credential;
        let home = &self.agent.environment.home;
        if let Some(file_watch) = &self.file_watch {
            for path in rules.paths.iter().chain(&rules.companions) {
                file_watch.watch_near(home, &home.join(path));
            }
        }
    }

    /// Adds the companions to a stable credential. Waits for companions that still change, but not forever.
    fn with_companions(&mut self, path: &str, file: FileSnapshot, companions_before: &[Companion]) -> FindResult {
        let companions = self.companions();
        if !is_stable(companions_before, &companions) && self.state.companion_waits < COMPANION_WAITS_MAX {
            self.state.companion_waits += 1;
            return FindResult::Incomplete;
        }
        self.state.companion_waits = 0;
        let companions = self.accepted_companions(companions);
        FindResult::Found(FoundCredential { path: path.to_owned(), file, companions })
    }

    fn read_file(&self, path: &str) -> CheckResult {
        let rules = CheckRules {
            format: &self.claim.format,
            bytes_max: self.claim.capture_limits.file_bytes_max,
            ignored: self.ignored_contents(path),
            not_before: self.not_before(),
        };
        credential_file::read_and_check(&self.agent.environment.home.join(path), &rules)
    }

    /// The contents that do not count at `path`: the one that the controller has answered, and in a sign-in the one at the claim.
    fn ignored_contents(&self, path: &str) -> Vec<[u8; 32]> {
        let answered = self.state.answered.get(path).copied();
        let at_claim = self.claim.baselines.get(path).copied().flatten();
        match answered {
            // The stored credential is the one delivered last, so a return to the first one is a change.
            Some(answered) if self.claim.use_credential.is_some() => vec![answered],
            answered => answered.into_iter().chain(at_claim).collect(),
        }
    }

    /// Whether an unchanged file at `path` is expected and not reported.
    fn ignores_unchanged(&self, path: &str) -> bool {
        self.claim.use_credential.is_some() || self.state.answered.contains_key(path)
    }

    /// Files that are older do not count. With a stored credential only the content counts, since its files were written before.
    fn not_before(&self) -> Option<SystemTime> {
        self.claim.use_credential.is_none().then_some(self.claim.claimed_at)
    }

    /// The present companion files.
    fn companions(&self) -> Vec<Companion> {
        let (home, bytes_max) = (&self.agent.environment.home, self.claim.capture_limits.file_bytes_max);
        let uses_stored = self.claim.use_credential.is_some();
        let read = |path: &String| {
            // A stored credential is replaced as a whole, so its companions are delivered also if they have not changed.
            let baseline = if uses_stored { None } else { self.claim.baselines.get(path).copied().flatten() };
            let file = credential_file::read_companion(&home.join(path), bytes_max, &baseline, self.not_before());
            (path.clone(), file)
        };
        self.claim.provider.credential.companions.iter().map(read).collect()
    }

    fn accepted_companions(&mut self, companions: Vec<Companion>) -> Vec<(String, FileSnapshot)> {
        let mut accepted = Vec::new();
        for (path, file) in companions {
            match file {
                Ok(Some(file)) => accepted.push((path, file)),
                Ok(None) => {}
                Err(reason) => self.report_rejection(&path, reason),
            }
        }
        accepted
    }

    fn publish_rejection(&mut self, path: &str, reason: Rejection) {
        if self.state.reported.get(path) != Some(&reason) {
            let rejected = CaptureState::CandidateRejected { path: path.into(), why: reason.to_string().into() };
            self.agent.sign_in.set_capture_state(rejected);
            self.report_rejection(path, reason);
        }
    }

    fn report_rejection(&mut self, path: &str, reason: Rejection) {
        if self.state.reported.get(path) != Some(&reason) {
            self.agent
                .events
                .push(CaptureEvent::CandidateRejected { path: path.into(), why: reason.to_string().into() });
            self.state.reported.insert(path.to_owned(), reason);
        }
    }

    /// Whether the tool can work with the credential: it has shown so, or its descriptor does not say that it does. It is reported when
    /// the tool has shown that it cannot, or has shown nothing for a while.
    fn is_usable(&mut self, found: &FoundCredential, outcome: Option<&SignInOutcome>) -> bool {
        if !self.claim.provider.credential.usable_when_done || outcome == Some(&SignInOutcome::Done) {
            self.state.not_usable_since = None;
            return true;
        }
        let since = *self.state.not_usable_since.get_or_insert_with(Instant::now);
        if outcome.is_some() || since.elapsed() >= Duration::from_millis(NOT_USABLE_REPORT_MS) {
            self.publish_rejection(&found.path, Rejection::NotUsable);
        }
        false
    }

    /// Reports once that the tool has shown that it is signed in and that none of the files is there, with the files that were written.
    async fn report_missing(&mut self, outcome: Option<&SignInOutcome>) {
        let paths = &self.claim.provider.credential.paths;
        let is_absent = |path: &String| matches!(self.read_file(path), CheckResult::Absent);
        if outcome != Some(&SignInOutcome::Done) || !paths.iter().all(is_absent) {
            self.state.not_found_since = None;
            // A tool that starts again is watched again.
            self.state.reported.retain(|_, reason| !matches!(reason, Rejection::NotFound { .. }));
            return;
        }
        let since = *self.state.not_found_since.get_or_insert_with(Instant::now);
        let Some(path) = paths.first().cloned() else { return };
        if since.elapsed() >= Duration::from_millis(NOT_FOUND_REPORT_MS)
            && !matches!(self.state.reported.get(&path), Some(Rejection::NotFound { .. }))
        {
            let (home, claimed_at) = (self.agent.environment.home.clone(), self.claim.claimed_at);
            let written = tokio::task::spawn_blocking(move || written_files::written_since(&home, claimed_at));
            let written = written_files::Names(written.await.unwrap_or_default());
            self.publish_rejection(&path, Rejection::NotFound { written });
        }
    }

    /// Runs the tool's status command, if it has one.
    async fn status_confirms(&mut self, found: &FoundCredential) -> bool {
        let digest = found.file.stamp.digest;
        if let Some((content, at)) = self.state.unconfirmed
            && content == digest
            && at.elapsed() < Duration::from_millis(STATUS_EVERY_MS)
        {
            return false;
        }
        let claim = self.claim.clone();
        match status_command::run_status_command(self.agent, &claim).await.signed_in {
            Ok(()) => true,
            Err(reason) => {
                self.state.unconfirmed = Some((digest, Instant::now()));
                self.publish_rejection(&found.path, reason.into());
                false
            }
        }
    }

    /// Returns whether the watch is over.
    async fn keep_or_deliver(&mut self, found: &FoundCredential) -> bool {
        match self.claim.provider.storage_policy {
            StoragePolicy::Store | StoragePolicy::DeliverOnce => match self.deliver(found).await {
                DeliveryOutcome::Accepted => true,
                DeliveryOutcome::Rejected | DeliveryOutcome::Superseded => false,
            },
            StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => {
                self.agent.sign_in.set_capture_state(CaptureState::KeptInMachine { path: found.path.clone().into() });
                self.agent.events.push(CaptureEvent::KeptInMachine { path: found.path.clone().into() });
                true
            }
        }
    }

    /// Delivers `found`. A content that the controller has accepted or rejected is not sent again.
    pub(crate) async fn deliver(&mut self, found: &FoundCredential) -> DeliveryOutcome {
        let bytes = u64::try_from(found.file.bytes.len()).unwrap_or(u64::MAX);
        self.agent.events.push(CaptureEvent::CandidateAccepted { path: found.path.clone().into(), bytes });
        self.state.reported.clear();
        let outcome =
            deliver::deliver_credential(self.agent, &self.claim, found.files(), || self.is_superseded(found)).await;
        match outcome {
            DeliveryOutcome::Accepted | DeliveryOutcome::Rejected => {
                self.state.answered.insert(found.path.clone(), found.file.stamp.digest);
            }
            DeliveryOutcome::Superseded => {}
        }
        outcome
    }

    /// Whether the files have changed since: a refreshed token often invalidates the old one, and a tool may write companions later.
    fn is_superseded(&self, found: &FoundCredential) -> bool {
        let is_renewed = match self.read_file(&found.path) {
            CheckResult::Complete(file) => file.stamp.digest != found.file.stamp.digest,
            CheckResult::Unchanged | CheckResult::Rejected(_) | CheckResult::Absent => false,
        };
        let present = self.companions();
        let present = present.iter().filter_map(|(path, file)| Some((path, &file.as_ref().ok()?.as_ref()?.stamp)));
        is_renewed || !present.eq(found.companions.iter().map(|(path, file)| (path, &file.stamp)))
    }
}

fn is_stable(before: &[Companion], now: &[Companion]) -> bool {
    let stamp = |file: &Result<Option<FileSnapshot>, Rejection>| match file {
        Ok(file) => Ok(file.as_ref().map(|file| file.stamp.clone())),
        Err(reason) => Err(reason.clone()),
    };
    before.iter().map(|(_, file)| stamp(file)).eq(now.iter().map(|(_, file)| stamp(file)))
}
