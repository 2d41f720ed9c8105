//! Sessions at external machines: what is known of a desktop that is not of this host.
//!
//! Only dials for viewers say something (`desktop_connected`, `desktop_connect_failed`: each change is one entry). A diagnosis does
//! not dial: VNC servers take connections that come and go for an attack and lock their sender out.

use super::{
    Finding, Input, SupervisorSnapshot,
    observation::Observation,
    timeline_view::{TimelineView, text, when},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    Problem,
    diagnosis::{Component, ComponentState, Verdict},
};

/// What the configuration says of a session's external machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMachineConfig {
    /// Whether it is there.
    pub is_there: bool,
    /// Where it is, for those who may know.
    pub address: Option<String>,
}

/// The last dial whose result was another than the one before.
fn dialled<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    timeline.all.iter().rfind(|entry| matches!(entry.kind.as_str(), "desktop_connected" | "desktop_connect_failed"))
}

/// Its name, and its address for those who may know.
fn named(input: &Input<'_>, name: &str) -> String {
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
        (Problem::ExternalWrongProtocol, Verdict::ExternalWrongProtocol),
    ];
    verdicts.into_iter().find(|(problem, _)| problem.code() == code).map(|(_, verdict)| verdict)
}

/// What keeps viewers from the desktop of a session's external machine.
pub(super) fn fault<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let name = input.row.external_machine.as_ref()?;
    let is_there = input.external.as_ref().is_some_and(|external| external.is_there);
    if input.row.is_active() && !is_there {
        let sentence = format!(
            "The session uses the external machine {name}, which is no longer in the configuration: its desktop cannot be \
             opened."
        );
        return Some(Finding::new(Verdict::ExternalRemoved, sentence, timeline.all.last()));
    }
    let last = dialled(timeline).filter(|last| last.kind == "desktop_connect_failed")?;
    let code = text(last, "reason");
    let verdict = verdict_of(code)?;
    let said = Problem::from_code(code).map_or("", Problem::sentence).trim_end_matches('.');
    let machine = named(input, name);
    let sentence = format!(
        "The desktop of the external machine {machine} could not be opened at {}: {said} ({}).",
        when(last),
        text(last, "detail")
    );
    let refused =
        timeline.every("viewer_rejected").filter(|entry| entry.number > last.number && text(entry, "reason") == code);
    Some(Finding::new(verdict, sentence, [last].into_iter().chain(refused)))
}

/// It is the person's turn, as far as is known here.
pub(super) fn person<'a>(input: &Input<'_>, timeline: &TimelineView<'a>, supervisor: &SupervisorSnapshot) -> Option<Finding<'a>> {
    let machine = named(input, input.row.external_machine.as_ref()?);
    let desktop = match dialled(timeline) {
        Some(entry) => format!("its desktop answered at {}", when(entry)),
        None => "nobody has opened its desktop yet".to_owned(),
    };
    let viewers = match supervisor.viewers {
        0 => "nobody looks at it".to_owned(),
        1 => "one viewer looks at it".to_owned(),
        count => format!("{count} viewers look at it"),
    };
    let agent = match heard(timeline) {
        Some(entry) => format!("its agent was heard at {}", when(entry)),
        None => "nothing was heard of its agent".to_owned(),
    };
    let sentence = format!(
        "The external machine {machine} serves the session: {desktop}, {viewers}, {agent}; it is the person's turn."
    );
    let evidence = timeline.every("accepted").chain(dialled(timeline)).chain(heard(timeline));
    Some(Finding::new(Verdict::WaitingForUser, sentence, evidence))
}

/// The last that the agent told.
fn heard<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let kinds = [
        "cli_started",
        "cli_exited",
        "sign_in_url",
        "device_code",
        "browser_opened",
        "browser_not_opened",
        "candidate_rejected",
        "candidate_accepted",
        "delivery_retry",
    ];
    timeline.all.iter().rfind(|entry| kinds.contains(&entry.kind.as_str()))
}

/// A link of the chain that is otherwise than with a machine of this host.
pub(super) fn link(input: &Input<'_>, timeline: &TimelineView<'_>, component: Component) -> Option<Observation> {
    let name = input.row.external_machine.as_ref()?;
    let has = |kind| timeline.all.iter().any(|entry| entry.kind == kind);
    Some(match component {
        Component::Machine => {
            let machine = named(input, name);
            match dialled(timeline) {
                None => {
                    (ComponentState::Unknown, format!("It is the external machine {machine}; nobody has dialled it yet."))
                }
                Some(_) => (ComponentState::Ok, format!("It is the external machine {machine}.")),
            }
        }
        Component::Channel => (ComponentState::NotReached, "There is none to an external machine.".to_owned()),
        Component::Agent => match heard(timeline) {
            Some(entry) => (ComponentState::Ok, format!("It was heard at {}.", when(entry))),
            None => {
                (ComponentState::Unknown, "Nothing was heard of it: it delivers by itself, with its own token.".to_owned())
            }
        },
        Component::Display => match dialled(timeline) {
            None => (ComponentState::NotReached, "Nobody has opened it yet.".to_owned()),
            Some(entry) if entry.kind == "desktop_connected" => {
                (ComponentState::Ok, format!("It answered at {}.", when(entry)))
            }
            Some(entry) => {
                let (code, detail) = (text(entry, "reason"), text(entry, "detail"));
                (ComponentState::Failed, format!("It could not be opened at {} ({code}: {detail}).", when(entry)))
            }
        },
        Component::Cli if !has("cli_started") && !has("cli_exited") => {
            (ComponentState::Unknown, "Nothing was heard of it.".to_owned())
        }
        Component::Egress => (ComponentState::NotReached, "An external machine has its own way out.".to_owned()),
        Component::Session | Component::Tunnel | Component::Cli | Component::Credential => return None,
    })
}
