//! The device code of a sign-in: whether it was recognized and is valid.

use super::{MachineSignIn, Moment, SessionState};
use anteroom_wire::{
    agent::{CliState, SignInOutcome},
    provider::{Lane, Provider},
};
use std::time::Duration;
use tokio::time::Instant;

/// A tool shows its code together with its address: a code that is missing this long after it was not recognized.
const CODE_GRACE: Duration = Duration::from_secs(8);

/// The device code of a tool that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceCodeState {
    /// It is shown and valid, or the method has none, or it is too early to know.
    #[default]
    Usual,
    /// The tool has shown its address, and no code that the method's rule matches.
    Unrecognized,
    /// The code that is shown was valid for a limited time, which is over.
    Expired,
}

impl SessionState {
    /// Whether the sign-in continues only if the tool is started again, although the tool still runs: it reported that the sign-in failed,
    /// or the code that is shown is no longer valid.
    pub fn must_restart_tool(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| {
            machine.sign_in.has_reported_failure()
                || machine.sign_in.device_code_state(&self.provider) == DeviceCodeState::Expired
        })
    }
}

impl MachineSignIn {
    /// Whether the tool reported that the sign-in failed.
    pub fn has_reported_failure(&self) -> bool {
        matches!(self.reported_status.outcome, Some(SignInOutcome::Failed { .. }))
    }

    /// The state of the device code.
    pub fn device_code_state(&self, provider: &Provider) -> DeviceCodeState {
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if is_past(self.device_code_until(provider).map(|until| until.at)) {
            DeviceCodeState::Expired
        } else if is_past(self.code_missing_at(provider)) {
            DeviceCodeState::Unrecognized
        } else {
            DeviceCodeState::Usual
        }
    }

    /// Until when the device code that is shown is valid; `None`: none is shown, or how long it is valid is not known.
    pub fn device_code_until(&self, provider: &Provider) -> Option<Moment> {
        let has_exited = matches!(self.reported_status.cli, CliState::Exited { .. });
        let shown = self.device_code_at.filter(|_| !has_exited && self.reported_status.device_code.is_some())?;
        let life_s = provider.sign_in.code_s_max?;
        Some(Moment { at: shown.at + Duration::from_secs(life_s), at_ms: shown.at_ms + life_s * 1_000 })
    }

    /// When a code counts as not recognized, if none is found until then; `None`: none is missing.
    pub fn code_missing_at(&self, provider: &Provider) -> Option<Instant> {
        let reported = &self.reported_status;
        let expects_code = provider.sign_in.code.is_some() && provider.lanes.first() == Some(&Lane::DeviceCode);
        let is_open = reported.cli == CliState::Running && reported.outcome.is_none() && reported.prompt.is_none();
        let is_missing = expects_code && is_open && reported.device_code.is_none() && !self.is_answered;
        self.shown_at.filter(|_| is_missing).map(|at| at + CODE_GRACE)
    }
}
