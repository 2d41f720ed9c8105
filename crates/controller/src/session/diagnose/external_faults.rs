//! The diagnosis of sessions at external machines.
//!
//! The only sources are the connection attempts for viewers (`desktop_connected`, `desktop_connect_failed`: one entry for each
//! change of the result). A diagnosis does not connect itself: some VNC servers treat many short connections as an attack and
//! block the sender.

use super::{
    DiagnosisInput, Finding, SupervisorSnapshot,
    observation::Observation,
    timeline_view::{TimelineView, data_text, format_time},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    Problem, TimelineKind,
    diagnosis::{Component, ComponentState, Verdict},
};

/// The configuration of a session's external machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMachineConfig {
    /// Whether the configuration has a machine of that name.
    pub is_configured: bool,
    /// The address, if the caller may see it.
    pub address: Option<String>,
}

/// The last connection attempt whose result differed from the one before.
fn last_dial<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    timeline
        .all
        .iter()
        .rfind(|entry| matches!(entry.kind, TimelineKind::DesktopConnected | TimelineKind::DesktopConnectFailed))
}

/// The machine's name, with its address if the caller may see it.
fn display_name(input: &DiagnosisInput<'_>, name: &str) -> String {
    let address = input.external.as_ref().and_then(|external| external.address.as_ref());
    address.map_or_else(|| name.to_owned(), |address| format!("{name} ({address})"))
}

fn verdict_of(code: &str) -> Option<Verdict> {
    let verdicts = [
        (Problem::ExternalNoRoute, Verdict::ExternalNoRoute),
        (Problem::ExternalRefused, Verdict::ExternalRefused),
        (Problem::ExternalTimeout, Verdict::ExternalTimeout),
        (Problem::ExternalSilent, Verdict::ExternalSilent),
        (Problem::ExternalClosed, Verdict::ExternalClosed),
        (Problem::ExternalCertificate, Verdict::ExternalCertificate),
        (Problem::ExternalNoTls, Verdict::ExternalNoTls),
        (Problem::ExternalWrongProtocol, Verdict::ExternalWrongProtocol),
        (Problem::ExternalSecurityUnsupported, Verdict::ExternalSecurityUnsupported),
        (Problem::ExternalPasswordRejected, Verdict::ExternalPasswordRejected),
        (Problem::ExternalRejected, Verdict::ExternalRejected),
    ];
    verdicts.into_iter().find(|(problem, _)| problem.code() == code).map(|(_, verdict)| verdict)
}

/// The fault that prevents viewers from reaching the desktop of the external machine.
pub(super) fn find_fault<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let name = input.row.external_machine.as_ref()?;
    let is_configured = input.external.as_ref().is_some_and(|external| external.is_configured);
    if input.row.is_active() && !is_configured {
        let sentence = format!(
            "The session uses the external machine {name}, which is no longer in the configuration: its desktop cannot be \
             opened."
        );
        return Some(Finding::new(Verdict::ExternalRemoved, sentence, timeline.all.last()));
    }
    let last = last_dial(timeline).filter(|last| last.kind == TimelineKind::DesktopConnectFailed)?;
    let code = data_text(last, "reason");
    let verdict = verdict_of(code)?;
    let problem = Problem::from_code(code).map_or("", Problem::sentence).trim_end_matches('.');
    let machine = display_name(input, name);
    let sentence = format!(
        "The desktop of the external machine {machine} could not be opened at {}: {problem} ({}).",
        format_time(last),
        data_text(last, "detail")
    );
    let refused = timeline
        .of_kind(TimelineKind::ViewerRejected)
        .filter(|entry| entry.number > last.number && data_text(entry, "reason") == code);
    Some(Finding::new(verdict, sentence, [last].into_iter().chain(refused)))
}

/// No fault is known: the session waits for the user.
pub(super) fn waiting_for_user_finding<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
    supervisor: &SupervisorSnapshot,
) -> Option<Finding<'a>> {
    let machine = display_name(input, input.row.external_machine.as_ref()?);
    let desktop = match last_dial(timeline) {
        Some(entry) => format!("its desktop answered at {}", format_time(entry)),
        None => "its desktop has not been opened yet".to_owned(),
    };
    let viewers = match supervisor.desktop_viewers {
        0 => "no page shows its desktop".to_owned(),
        1 => "one viewer is connected".to_owned(),
        count => format!("{count} viewers are connected"),
    };
    let agent = match last_agent_entry(timeline) {
        Some(entry) => format!("its agent last reported at {}", format_time(entry)),
        None => "its agent has not reported yet".to_owned(),
    };
    let sentence = format!(
        "The external machine {machine} serves the session: {desktop}, {viewers}, {agent}; the session waits for the user."
    );
    let evidence =
        timeline.of_kind(TimelineKind::Accepted).chain(last_dial(timeline)).chain(last_agent_entry(timeline));
    Some(Finding::new(Verdict::WaitingForUser, sentence, evidence))
}

/// The last entry that the agent reported.
fn last_agent_entry<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let kinds = [
        TimelineKind::CliStarted,
        TimelineKind::CliExited,
        TimelineKind::SignInUrl,
        TimelineKind::DeviceCode,
        TimelineKind::BrowserOpened,
        TimelineKind::BrowserNotOpened,
        TimelineKind::CandidateRejected,
        TimelineKind::CandidateAccepted,
        TimelineKind::DeliveryRetry,
    ];
    timeline.all.iter().rfind(|entry| kinds.contains(&entry.kind))
}

/// The status of a component that differs from that of a session at a machine of this host.
pub(super) fn observe_component(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'_>,
    component: Component,
) -> Option<Observation> {
    let name = input.row.external_machine.as_ref()?;
    let has = |kind| timeline.all.iter().any(|entry| entry.kind == kind);
    Some(match component {
        Component::Machine => {
            let machine = display_name(input, name);
            match last_dial(timeline) {
                None => (
                    ComponentState::Unknown,
                    format!("It is the external machine {machine}; no connection has been attempted yet."),
                ),
                Some(_) => (ComponentState::Ok, format!("It is the external machine {machine}.")),
            }
        }
        Component::Channel => (ComponentState::NotReached, "An external machine has no channel.".to_owned()),
        Component::Agent => match last_agent_entry(timeline) {
            Some(entry) => (ComponentState::Ok, format!("It last reported at {}.", format_time(entry))),
            None => (
                ComponentState::Unknown,
                "It has not reported yet; it delivers over HTTP with a separate token.".to_owned(),
            ),
        },
        Component::Display => match last_dial(timeline) {
            None => (ComponentState::NotReached, "It has not been opened yet.".to_owned()),
            Some(entry) if entry.kind == TimelineKind::DesktopConnected => {
                (ComponentState::Ok, format!("It answered at {}.", format_time(entry)))
            }
            Some(entry) => {
                let (code, detail) = (data_text(entry, "reason"), data_text(entry, "detail"));
                (
                    ComponentState::Failed,
                    format!("It could not be opened at {} ({code}: {detail}).", format_time(entry)),
                )
            }
        },
        Component::Cli if !has(TimelineKind::CliStarted) && !has(TimelineKind::CliExited) => {
            (ComponentState::Unknown, "It has not been reported yet.".to_owned())
        }
        Component::Egress => {
            (ComponentState::NotReached, "An external machine does not use the egress gate.".to_owned())
        }
        Component::Session | Component::Tunnel | Component::Cli | Component::Credential => return None,
    })
}
