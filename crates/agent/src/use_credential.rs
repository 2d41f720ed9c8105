//! Uses a stored credential: installs its files before anything starts, then runs one command, once.
//!
//! ```text
//!  claim ─▶ files installed ─▶ exec, logout: the command in the pane ─▶ exited ─▶ last scan ─▶ use completed
//!                        └───▶ check: the status command, no terminal ─▶ checked ──▲
//!          exec: each change of the credential by the tool is delivered at once
//! ```
//!
//! A tool refreshes its credential at any time, and the refresh often invalidates the old one. So a change is delivered as soon as it is
//! complete and stable, and the use is completed only when the last delivery was answered. If the tool deletes the credential, nothing is
//! delivered, which is not an error. The tool's status command is not run after a refresh, since the tool was signed in before.

mod check;
pub(crate) mod run_state;

use crate::{
    agent::Agent,
    capture::{
        capture_loop::{CredentialWatch, FindResult, FoundCredential},
        deliver::DeliveryOutcome,
    },
    exec,
    platform::{environment::ExecutionEnvironment, home_files},
    sign_in::active_claim::ActiveClaim,
};
use anteroom_wire::{
    agent::{Claim, CredentialUseEvent, UseCredential, UsePurpose},
    provider::StoragePolicy,
};
use std::{io, sync::Arc};

/// Scans after the command's exit that find an incomplete credential: a child of the tool may still be writing.
const LAST_SCANS_MAX: u32 = 5;

/// The errors in the use that a claim requests.
pub(crate) fn validation_errors(claim: &Claim) -> Vec<String> {
    let Some(used) = &claim.use_credential else { return Vec::new() };
    let rules = &claim.provider.credential;
    let mut errors = Vec::new();
    let mut need = |valid: bool, error: String| {
        if !valid {
            errors.push(error);
        }
    };
    let is_stored = match claim.provider.storage_policy {
        StoragePolicy::Store | StoragePolicy::DeliverOnce => true,
        StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => false,
    };
    need(is_stored, "use_credential: the provider's policy is not to store one".to_owned());
    let has_credential = used.files.iter().any(|file| rules.paths.contains(&file.path));
    need(has_credential, "use_credential.files: none of them is at one of the credential's paths".to_owned());
    for (at, file) in used.files.iter().enumerate() {
        let file_name = format!("use_credential.files[{at}] {:?}", file.path);
        let is_known = rules.paths.contains(&file.path) || rules.companions.contains(&file.path);
        need(is_known, format!("{file_name}: not one of the credential's paths"));
        let is_first = !used.files[..at].iter().any(|earlier| earlier.path == file.path);
        need(is_first, format!("{file_name}: is there twice"));
        let size = u64::try_from(file.content.expose().len()).unwrap_or(u64::MAX);
        need(
            size <= claim.capture_limits.file_bytes_max,
            format!("{file_name}: larger than capture_limits.file_bytes_max"),
        );
    }
    let has_program = used.argv.first().is_some_and(|program| !program.is_empty());
    match used.purpose {
        UsePurpose::Exec | UsePurpose::Logout => need(has_program, "use_credential.argv names no program".to_owned()),
        UsePurpose::Check => {
            need(used.argv.is_empty(), "use_credential.argv: a check has none".to_owned());
            need(!rules.status_argv.is_empty(), "use_credential: the provider has no status command".to_owned());
        }
    }
    errors
}

/// Installs the credential's files, byte for byte. Existing files are replaced.
///
/// # Errors
/// The first file that cannot be written, with its path.
pub(crate) fn install_files(environment: &ExecutionEnvironment, used: &UseCredential) -> io::Result<()> {
    used.files
        .iter()
        .try_for_each(|file| home_files::write_home_file(environment, &file.path, file.content.expose(), file.mode))
}

/// Delivers the changes of the credential until the command has exited, and pushes [`CredentialUseEvent::Completed`]. Runs the command only
/// for a check; the pane, or an exec channel, runs the others.
pub(crate) async fn follow_use_to_completion(agent: &Agent, claim: Arc<ActiveClaim>, purpose: UsePurpose) {
    let (code, changed) = match purpose {
        UsePurpose::Exec => {
            let is_attached = exec::is_attached(&claim);
            let mut changes = ChangeDelivery::new(agent, claim);
            let code = tokio::select! {
                code = changes.deliver_until_exit(agent) => code,
                never = exec::end_use_without_caller(agent), if is_attached => match never {},
            };
            (code, changes.deliver_last().await)
        }
        UsePurpose::Check => {
            let changes = ChangeDelivery::new(agent, claim.clone());
            let code = check::run_check(agent, &claim).await;
            (code, changes.deliver_last().await)
        }
        UsePurpose::Logout => (agent.credential_use_run.wait_exit().await, false),
    };
    agent.events.push(CredentialUseEvent::Completed { code, changed });
}

/// Delivers the changes that the tool makes to its credential.
struct ChangeDelivery<'a> {
    watch: CredentialWatch<'a>,
    changed: bool,
}

impl<'a> ChangeDelivery<'a> {
    fn new(agent: &'a Agent, claim: Arc<ActiveClaim>) -> Self {
        Self { watch: CredentialWatch::new(agent, claim), changed: false }
    }

    /// Delivers changes as long as the command runs. Returns its exit code.
    async fn deliver_until_exit(&mut self, agent: &Agent) -> i32 {
        loop {
            while let FindResult::Found(found) = self.watch.find_stable_credential().await {
                self.deliver(&found).await;
            }
            tokio::select! {
                code = agent.credential_use_run.wait_exit() => return code,
                () = self.watch.wait_change() => {}
            }
        }
    }

    /// Delivers a last change after the command's exit. Returns whether the credential has changed at any time.
    async fn deliver_last(mut self) -> bool {
        let mut scans = 0;
        while scans < LAST_SCANS_MAX {
            match self.watch.find_stable_credential().await {
                FindResult::Found(found) => self.deliver(&found).await,
                FindResult::Incomplete => scans += 1,
                FindResult::Nothing => break,
            }
        }
        self.changed
    }

    async fn deliver(&mut self, found: &FoundCredential) {
        self.changed = true;
        match self.watch.deliver(found).await {
            // The next scan finds a credential that superseded this one.
            DeliveryOutcome::Accepted | DeliveryOutcome::Rejected | DeliveryOutcome::Superseded => {}
        }
    }
}
