//! The situation of a session and its sentences for the person and for operators. Pure.

mod remote_browser;
mod unfinished;

use super::{
    active_session::{CurrentMachine, MachineHost, MachineSignIn},
    diagnose::{ToolWords, named_cause},
    egress_faults::{EgressFault, EgressFaults},
};
use anteroom_wire::{
    EndReason,
    agent::{CaptureState, CliState, SignInOutcome},
    api::{MethodView, SessionStatus},
    diagnosis::Verdict,
    provider::{Lane, Provider},
    situation::{PersonAction, Situation},
};
use std::time::Duration;
pub use unfinished::next_change;

/// A tool that exits with 0 is taken to have signed in for this long: the agent waits until its files are stable before it reports a
/// credential.
pub const CAPTURE_GRACE: Duration = Duration::from_secs(5);

/// What the situation is computed from.
#[derive(Debug, Clone, Copy)]
pub(super) struct SituationInput<'a> {
    pub(super) status: SessionStatus,
    pub(super) queue_position: Option<u32>,
    pub(super) queue_wait_s: Option<u64>,
    pub(super) provider: Option<&'a Provider>,
    pub(super) machine: Option<&'a CurrentMachine>,
    pub(super) egress_faults: &'a EgressFaults,
    pub(super) uses_credential: bool,
    pub(super) end_reason: Option<EndReason>,
    /// All methods of the provider.
    pub(super) methods: &'a [MethodView],
    /// Whether the person is asked for a setting of the provider.
    pub(super) asks_setting: bool,
}

impl<'a> SituationInput<'a> {
    /// The situation; with the host that could not be reached, if that is the cause.
    pub(super) fn situation(&self) -> (Situation, Option<&'a str>) {
        let situation = match self.status {
            SessionStatus::VmCreating if self.queue_position.is_some() => Situation::Queued,
            SessionStatus::VmCreating | SessionStatus::VmCreated => Situation::Preparing,
            SessionStatus::VmStopped => Situation::Replacing,
            SessionStatus::VmStarted | SessionStatus::Authenticating if self.uses_credential => Situation::UseRunning,
            SessionStatus::VmStarted | SessionStatus::Authenticating => return self.situation_of_tool(),
            SessionStatus::Completed if self.uses_credential => Situation::UseEnded,
            SessionStatus::Completed => Situation::Connected,
            SessionStatus::Cancelled => Situation::Cancelled,
            SessionStatus::Failed | SessionStatus::Expired => match self.end_reason {
                Some(EndReason::IdleExpired) => Situation::IdleExpired,
                Some(EndReason::DeadlineExpired) => Situation::DeadlineExpired,
                Some(EndReason::MachineFailed) => Situation::MachinesFailed,
                Some(_) | None => Situation::Failed,
            },
        };
        (situation, None)
    }

    /// The situation of the tool; where the person acts, that of the page on which they do.
    fn situation_of_tool(&self) -> (Situation, Option<&'a str>) {
        let found = self.sign_in_situation();
        if found.0 != Situation::YourTurn {
            return found;
        }
        self.code_is_not_polled().or_else(|| self.only_page()).unwrap_or(found)
    }

    fn sign_in_situation(&self) -> (Situation, Option<&'a str>) {
        let Some(machine) = self.machine.filter(|machine| machine.host != MachineHost::External) else {
            return (Situation::YourTurn, None);
        };
        let sign_in = &machine.sign_in;
        if let Some(situation) = capture_situation(machine) {
            return (situation, None);
        }
        // A tool that asks again has not failed for good.
        if sign_in.reported_status.prompt.is_some() {
            return (Situation::YourTurn, None);
        }
        if self.asks_setting {
            return (Situation::SettingNeeded, None);
        }
        if let Some(text) = failure_text(sign_in) {
            return self.failure(sign_in, &text);
        }
        if let Some(situation) = unfinished::unfinished(self.provider, sign_in) {
            return (situation, None);
        }
        match &sign_in.reported_status.cli {
            // The descriptor's pattern for success matched.
            _ if sign_in.reported_status.outcome == Some(SignInOutcome::Done) => (Situation::Saving, None),
            CliState::Exited { code: 0 } if sign_in.ended_at.is_some_and(|at| at.elapsed() < CAPTURE_GRACE) => {
                (Situation::Saving, None)
            }
            CliState::Exited { .. } => (Situation::ToolEnded, None),
            _ if sign_in.tool_not_started => (Situation::ToolMissing, None),
            CliState::Waiting | CliState::Running if sign_in.reported_status.is_in_progress() => {
                (Situation::YourTurn, None)
            }
            CliState::Waiting | CliState::Running => self.nothing_shown(sign_in),
        }
    }

    /// Why the tool failed, from what it printed at last.
    fn failure(&self, sign_in: &MachineSignIn, text: &str) -> (Situation, Option<&'a str>) {
        let words = self.provider.map(ToolWords::of).unwrap_or_default();
        match named_cause(text, &words) {
            Some(Verdict::SignInDeclined) => return (Situation::Declined, None),
            Some(Verdict::AccountRefused) => return (Situation::AccountRefused, None),
            Some(Verdict::CodeExpired) => return (Situation::CodeExpired, None),
            Some(_) | None => {}
        }
        match self.egress_faults.explain(text, sign_in.ended_at) {
            Some(fault) => host_situation(fault),
            None if exit_code(sign_in) == Some(COMMAND_NOT_FOUND) => (Situation::ToolMissing, None),
            None if sign_in.reported_status.outcome.is_some() => (Situation::SignInFailed, None),
            None => (Situation::ToolEnded, None),
        }
    }

    /// A running tool that has shown nothing to act on. Tools whose prompts have no rule show them in the terminal.
    fn nothing_shown(&self, sign_in: &MachineSignIn) -> (Situation, Option<&'a str>) {
        if let Some(fault) =
            sign_in.tool_started.and_then(|started| self.egress_faults.nothing_reached_since(started.at))
        {
            return host_situation(fault);
        }
        let lane = self.provider.and_then(|provider| provider.lanes.first());
        match lane {
            Some(Lane::Link | Lane::DeviceCode | Lane::Desktop) => (Situation::ToolStarting, None),
            Some(Lane::Terminal) | None => (Situation::YourTurn, None),
        }
    }

    /// What the person can do in the situation, the recommended action first.
    pub(super) fn actions(&self, situation: Situation, has_restart_left: bool) -> Vec<PersonAction> {
        // A tool that reported a failure may end a moment later, or never.
        let has_ended = self
            .machine
            .is_some_and(|machine| exit_code(&machine.sign_in).is_some() || machine.sign_in.has_reported_failure());
        let again = match (has_ended, has_restart_left) {
            (true, _) => Some(PersonAction::RestartTool),
            (false, true) => Some(PersonAction::ReplaceMachine),
            (false, false) => None,
        };
        let other = (!self.other_methods().is_empty()).then_some(PersonAction::ChangeMethod);
        match situation {
            Situation::PageOpening | Situation::PageUnreachable | Situation::PageDenied | Situation::PageNotOpened => {
                self.page_actions(situation)
            }
            Situation::YourTurn => self.lane_actions(),
            Situation::CodeInTerminal => {
                let others = self.lane_actions().into_iter().filter(|action| *action != PersonAction::UseTerminal);
                std::iter::once(PersonAction::UseTerminal).chain(others).collect()
            }
            // The provider accepts another way sooner than the same one.
            Situation::AccountRefused => other.into_iter().chain(again).collect(),
            // Also a tool that runs on gets a new code when it is started again.
            Situation::CodeExpired => [PersonAction::RestartTool].into_iter().chain(other).collect(),
            Situation::HostUnreachable
            | Situation::Declined
            | Situation::SignInFailed
            | Situation::ToolEnded
            | Situation::NotSaved
            | Situation::SettingNeeded
            | Situation::HostDenied => again.into_iter().chain(other).collect(),
            Situation::ToolMissing => other.into_iter().collect(),
            // The page offers it when the start takes long.
            Situation::ToolStarting => again.into_iter().collect(),
            Situation::MachinesFailed
            | Situation::DataUsedUp
            | Situation::Failed
            | Situation::IdleExpired
            | Situation::DeadlineExpired
            | Situation::Cancelled => vec![PersonAction::StartSession],
            Situation::Queued
            | Situation::Preparing
            | Situation::Replacing
            | Situation::Saving
            | Situation::SavingDelayed
            | Situation::Checking
            | Situation::KeptInMachine
            | Situation::Connected
            | Situation::UseRunning
            | Situation::UseEnded => Vec::new(),
        }
    }

    /// The lanes of the method in its order; the link only where the method has that lane and there is an address.
    fn lane_actions(&self) -> Vec<PersonAction> {
        let has_url = self.machine.is_some_and(|machine| machine.sign_in.reported_status.url.is_some());
        let lanes = self.provider.map_or(&[][..], |provider| &provider.lanes);
        let mut actions: Vec<PersonAction> = Vec::new();
        for lane in lanes {
            let action = match lane {
                Lane::Link | Lane::DeviceCode if has_url => PersonAction::OpenLink,
                Lane::Link | Lane::DeviceCode => continue,
                Lane::Desktop if self.is_desktop_cut_off() => continue,
                Lane::Desktop => PersonAction::UseDesktop,
                Lane::Terminal => PersonAction::UseTerminal,
            };
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        actions
    }
}

/// The exit code of a shell that does not find the command.
const COMMAND_NOT_FOUND: i32 = 127;

/// The situation from the capture on; `None`: no credential was found.
fn capture_situation(machine: &CurrentMachine) -> Option<Situation> {
    let sign_in = &machine.sign_in;
    if sign_in.kept_in_machine {
        return Some(Situation::KeptInMachine);
    }
    match &sign_in.reported_status.capture {
        CaptureState::Delivering { last_error: Some(_), .. } => Some(Situation::SavingDelayed),
        CaptureState::Delivering { last_error: None, .. } | CaptureState::Delivered => Some(Situation::Saving),
        CaptureState::DeliveryRejected { .. } => Some(Situation::NotSaved),
        CaptureState::Waiting | CaptureState::CandidateRejected { .. } | CaptureState::KeptInMachine { .. } => {
            machine.delivery_pending.then_some(Situation::Saving)
        }
    }
}

/// What a tool printed that failed; `None`: it has not failed.
fn failure_text(sign_in: &MachineSignIn) -> Option<String> {
    let reported = match &sign_in.reported_status.outcome {
        Some(SignInOutcome::Failed { why }) => Some(why.to_string()),
        Some(SignInOutcome::Done) | None => None,
    };
    let exited = exit_code(sign_in).filter(|code| *code != 0).map(|_| sign_in.last_lines.clone());
    match (reported, exited) {
        (Some(why), Some(lines)) => Some(format!("{why}\n{lines}")),
        (why, lines) => why.or(lines),
    }
}

fn exit_code(sign_in: &MachineSignIn) -> Option<i32> {
    match sign_in.reported_status.cli {
        CliState::Exited { code } => Some(code),
        CliState::Waiting | CliState::Running => None,
    }
}

fn host_situation(fault: &EgressFault) -> (Situation, Option<&str>) {
    let situation = if fault.is_unreachable() { Situation::HostUnreachable } else { Situation::HostDenied };
    (situation, Some(&fault.host))
}

#[cfg(test)]
mod tests;
