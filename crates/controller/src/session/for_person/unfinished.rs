//! A sign-in that does not go on although its tool reports no error: it is signed in and its credential is not found, its code is over or
//! was not recognized, or it checks an answer.

use super::CAPTURE_GRACE;
use crate::session::active_session::{DeviceCodeState, MachineSignIn};
use anteroom_wire::{
    agent::{CaptureState, CliState, SignInOutcome},
    provider::Provider,
    situation::Situation,
};
use tokio::time::Instant;

/// Why the sign-in does not go on; `None`: it does, or the tool's process says why.
pub(super) fn unfinished(provider: Option<&Provider>, sign_in: &MachineSignIn) -> Option<Situation> {
    let reported = &sign_in.reported_status;
    let has_ended_well = reported.cli == CliState::Exited { code: 0 };
    let is_signed_in = reported.outcome == Some(SignInOutcome::Done);
    let is_rejected = matches!(reported.capture, CaptureState::CandidateRejected { .. });
    let is_late = sign_in.ended_at.is_none_or(|at| at.elapsed() >= CAPTURE_GRACE);
    if (is_signed_in || has_ended_well) && is_rejected && is_late {
        return Some(Situation::NotSaved);
    }
    if reported.cli != CliState::Running || is_signed_in {
        return None;
    }
    match sign_in.device_code_state(provider?) {
        DeviceCodeState::Expired => Some(Situation::CodeExpired),
        DeviceCodeState::Unrecognized => Some(Situation::CodeInTerminal),
        DeviceCodeState::Usual => sign_in.is_answered.then_some(Situation::Checking),
    }
}

/// The next time at which the situation changes although the machine reports nothing.
pub fn next_change(provider: &Provider, sign_in: &MachineSignIn) -> Option<Instant> {
    let grace = sign_in.ended_at.map(|at| at + CAPTURE_GRACE);
    let code = sign_in.device_code_until(provider).map(|until| until.at);
    let now = Instant::now();
    [grace, code, sign_in.code_missing_at(provider)].into_iter().flatten().filter(|at| *at > now).min()
}
