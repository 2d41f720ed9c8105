//! The claim that applies now, with what was prepared for it.

use crate::{
    api_error::ApiError,
    capture::credential_file::{self, Baseline},
    platform::environment::ExecutionEnvironment,
};
use anteroom_screen::{PatternError, SignInFinder, compile_pattern};
use anteroom_wire::{
    Problem,
    agent::Claim,
    provider::{CredentialFormat, Provider},
};
use regex_lite::Regex;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Time for the answer to the claim, before the work that waits for the claim begins.
const CLAIM_RESPONSE_MS: u64 = 10;

/// A claim, with what was prepared for the sign-in.
pub(crate) struct ActiveClaim {
    pub(crate) claim: Claim,
    /// Finds URL and code on the screen.
    pub(crate) sign_in_finder: SignInFinder,
    /// The pattern that the output of the status command must match.
    pub(crate) status_pattern: Option<Regex>,
    /// Checks the format of a credential.
    pub(crate) format: CredentialFormat,
    /// The content of each credential path at the claim.
    pub(crate) baselines: BTreeMap<String, Baseline>,
    /// The guest's time of the claim.
    pub(crate) claimed_at: SystemTime,
}

impl ActiveClaim {
    /// # Errors
    /// [`Problem::Malformed`]: a pattern is not a regular expression.
    pub(super) fn new(
        claim: Claim,
        baselines: BTreeMap<String, Baseline>,
        claimed_at: SystemTime,
    ) -> Result<Self, ApiError> {
        let malformed = |error: PatternError| ApiError::caused_by(Problem::Malformed, error);
        let sign_in_finder = SignInFinder::new(&claim.provider.sign_in).map_err(malformed)?;
        let pattern = claim.provider.credential.status_matches.as_deref();
        let status_pattern = compile_pattern("credential.status_matches", pattern).map_err(malformed)?;
        let format = CredentialFormat::new(&claim.provider.credential);
        let format = format.map_err(|error| ApiError::caused_by(Problem::Malformed, error))?;
        Ok(Self { claim, sign_in_finder, status_pattern, format, baselines, claimed_at })
    }

    /// The same claim with another method of the same provider. The known baselines are kept.
    ///
    /// # Errors
    /// [`Problem::Malformed`]: another provider, an invalid one, or a machine that uses a stored credential.
    pub(super) fn with_provider(
        &self,
        environment: &ExecutionEnvironment,
        provider: Provider,
    ) -> Result<Self, ApiError> {
        let malformed = |reason: String| Err(ApiError::new(Problem::Malformed, reason));
        if self.use_credential.is_some() {
            return malformed("the machine uses a stored credential: it has no sign-in to change".to_owned());
        }
        if provider.id != self.provider.id {
            return malformed(format!("the machine is claimed for {}", self.provider.id));
        }
        let errors = provider.validation_errors();
        if !errors.is_empty() {
            return malformed(errors.join("; "));
        }
        let claim = Claim { provider, ..self.claim.clone() };
        let mut baselines = read_baselines(environment, &claim);
        baselines.extend(self.baselines.clone());
        Self::new(claim, baselines, self.claimed_at)
    }
}

impl std::ops::Deref for ActiveClaim {
    type Target = Claim;
    fn deref(&self) -> &Claim {
        &self.claim
    }
}

/// The current content of the credential's paths.
pub(super) fn read_baselines(environment: &ExecutionEnvironment, claim: &Claim) -> BTreeMap<String, Baseline> {
    let rules = &claim.provider.credential;
    let bytes_max = claim.capture_limits.file_bytes_max;
    let paths = rules.paths.iter().chain(&rules.companions);
    paths.map(|path| (path.clone(), credential_file::read_baseline(&environment.home.join(path), bytes_max))).collect()
}

/// Holds the active claim, from the claim on.
pub(crate) struct ClaimSlot {
    active: watch::Sender<Option<Arc<ActiveClaim>>>,
    /// Held while a claim or a change of method is applied.
    pub(crate) applying: tokio::sync::Mutex<()>,
}

impl ClaimSlot {
    pub(crate) fn new() -> Self {
        Self { active: watch::Sender::new(None), applying: tokio::sync::Mutex::new(()) }
    }

    /// The active claim; `None`: the machine is not claimed.
    pub(crate) fn current(&self) -> Option<Arc<ActiveClaim>> {
        self.active.borrow().clone()
    }

    /// Changes whenever another claim or another method becomes active.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<ActiveClaim>>> {
        self.active.subscribe()
    }

    pub(super) fn set(&self, claim: ActiveClaim) {
        self.active.send_replace(Some(Arc::new(claim)));
    }

    /// Waits for the claim, and then a few milliseconds in which it is answered.
    pub(crate) async fn wait_claimed(&self) -> Arc<ActiveClaim> {
        loop {
            let claimed = self.active.subscribe().wait_for(Option::is_some).await.map(|claim| claim.clone());
            if let Ok(Some(claim)) = claimed {
                tokio::time::sleep(Duration::from_millis(CLAIM_RESPONSE_MS)).await;
                return claim;
            }
        }
    }
}
