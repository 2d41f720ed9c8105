//! Sessions at external machines.

use super::{super::ExternalMachineConfig, *};
use anteroom_wire::TimelineKind;

fn on(address: Option<&str>) -> Case {
    let mut case = Case::new().at(Progress::Attached);
    case.row.external_machine = Some("desk".to_owned());
    case.external = Some(ExternalMachineConfig { is_configured: true, address: address.map(str::to_owned) });
    case
}

fn refused(case: Case, problem: Problem) -> Case {
    let data = json!({ "machine": "desk", "reason": problem.code(), "detail": "detail text", "after_ms": 3 });
    case.entry(TimelineKind::DesktopConnectFailed, data).viewer(TimelineKind::ViewerRejected, Some(problem))
}

fn reached(case: Case) -> Case {
    let data = json!({ "machine": "desk", "reason": null, "detail": null, "after_ms": 3 });
    case.entry(TimelineKind::DesktopConnected, data).viewer(TimelineKind::ViewerJoined, None)
}

fn removed() -> Case {
    let mut case = on(None);
    case.external = Some(ExternalMachineConfig { is_configured: false, address: None });
    case
}

fn agent_reported(case: Case) -> Case {
    case.entry(TimelineKind::CliStarted, Value::Null)
}

pub(super) fn rows() -> Vec<Row> {
    let no_route = |case| refused(case, Problem::ExternalNoRoute);
    let expired = |case: Case| case.ended(TimelineKind::Expired, EndReason::IdleExpired, "");
    vec![
        ("no viewer yet", on(None), Verdict::WaitingForUser),
        ("a viewer is connected", reached(on(None)), Verdict::WaitingForUser),
        ("the agent reported", agent_reported(reached(on(None))), Verdict::WaitingForUser),
        ("no route", no_route(on(None)), Verdict::ExternalNoRoute),
        ("refused", refused(on(None), Problem::ExternalRefused), Verdict::ExternalRefused),
        ("timeout", refused(on(None), Problem::ExternalTimeout), Verdict::ExternalTimeout),
        ("silent", refused(on(None), Problem::ExternalSilent), Verdict::ExternalSilent),
        ("closed", refused(on(None), Problem::ExternalClosed), Verdict::ExternalClosed),
        ("certificate", refused(on(None), Problem::ExternalCertificate), Verdict::ExternalCertificate),
        ("no TLS", refused(on(None), Problem::ExternalNoTls), Verdict::ExternalNoTls),
        ("wrong protocol", refused(on(None), Problem::ExternalWrongProtocol), Verdict::ExternalWrongProtocol),
        (
            "no way to sign in",
            refused(on(None), Problem::ExternalSecurityUnsupported),
            Verdict::ExternalSecurityUnsupported,
        ),
        ("wrong password", refused(on(None), Problem::ExternalPasswordRejected), Verdict::ExternalPasswordRejected),
        ("locked out", refused(on(None), Problem::ExternalRejected), Verdict::ExternalRejected),
        ("another cause since", refused(no_route(on(None)), Problem::ExternalSilent), Verdict::ExternalSilent),
        ("it came back", reached(no_route(on(None))), Verdict::WaitingForUser),
        ("it went away", no_route(reached(on(None))), Verdict::ExternalNoRoute),
        ("removed", removed(), Verdict::ExternalRemoved),
        ("removed, and refused before", no_route(removed()), Verdict::ExternalRemoved),
        ("a credential is being delivered", no_route(on(None)).accepted(), Verdict::Delivering),
        ("invalid file, and no desktop", no_route(on(None)).rejected("no JSON"), Verdict::CredentialInvalidFormat),
        ("never reached, expired", expired(no_route(on(None))), Verdict::ExternalNoRoute),
        ("reached, expired", expired(reached(on(None))), Verdict::IdleExpired),
        ("no viewer, expired", expired(on(None)), Verdict::IdleExpired),
        ("removed, expired", expired(removed()), Verdict::IdleExpired),
        ("completed", no_route(on(None)).ended(TimelineKind::Completed, EndReason::Completed, ""), Verdict::Completed),
        ("cancelled", no_route(on(None)).ended(TimelineKind::Cancelled, EndReason::Cancelled, ""), Verdict::Cancelled),
    ]
}

#[test]
fn address_is_only_reported_to_operators() {
    for case in [refused(on(None), Problem::ExternalRefused), on(None)] {
        let found = case.diagnosis();
        let text = serde_json::to_string(&found).unwrap();
        assert!(found.sentence.contains("external machine desk") && !text.contains("10.0.0.7"), "{text}");
    }
    for case in [refused(on(Some("ws://10.0.0.7:6080/")), Problem::ExternalRefused), on(Some("ws://10.0.0.7:6080/"))] {
        let found = case.diagnosis();
        assert!(found.sentence.contains("external machine desk (ws://10.0.0.7:6080/)"), "{}", found.sentence);
    }
}

#[test]
fn connect_failure_is_reported_with_time_problem_and_detail() {
    let found = refused(on(None), Problem::ExternalRefused).diagnosis();
    for part in [&at(2), "The external machine refuses connections to its desktop (detail text)."] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    let kinds: Vec<_> = found.evidence.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [TimelineKind::DesktopConnectFailed, TimelineKind::ViewerRejected]);
    assert_eq!(state_of(&found, Component::Display), ComponentState::Failed);
}

#[test]
fn components_of_an_external_machine_are_unknown_without_reports() {
    let fresh = on(None).diagnosis();
    let states = [
        Component::Machine,
        Component::Channel,
        Component::Agent,
        Component::Display,
        Component::Cli,
        Component::Egress,
    ];
    let states = |found: &Diagnosis| states.map(|component| state_of(found, component));
    use ComponentState::{NotReached, Ok, Unknown};
    assert_eq!(states(&fresh), [Unknown, NotReached, Unknown, NotReached, Unknown, NotReached]);
    let used = agent_reported(reached(on(None))).diagnosis();
    assert_eq!(states(&used), [Ok, NotReached, Ok, Ok, Ok, NotReached]);
}
