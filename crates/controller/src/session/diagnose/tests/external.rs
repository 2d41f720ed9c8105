//! Sessions at external machines.

use super::{super::ExternalMachineConfig, *};

fn on(address: Option<&str>) -> Case {
    let mut case = Case::new().at(MachineProgress::Open);
    case.row.external_machine = Some("desk".to_owned());
    case.external = Some(ExternalMachineConfig { is_configured: true, address: address.map(str::to_owned) });
    case
}

fn refused(case: Case, problem: Problem) -> Case {
    let data = json!({ "machine": "desk", "reason": problem.code(), "detail": "seen so", "after_ms": 3 });
    case.entry("desktop_connect_failed", data).viewer("viewer_rejected", Some(problem))
}

fn reached(case: Case) -> Case {
    let data = json!({ "machine": "desk", "reason": null, "detail": null, "after_ms": 3 });
    case.entry("desktop_connected", data).viewer("viewer_joined", None)
}

fn removed() -> Case {
    let mut case = on(None);
    case.external = Some(ExternalMachineConfig { is_configured: false, address: None });
    case
}

fn told(case: Case) -> Case {
    case.entry("cli_started", Value::Null)
}

pub(super) fn rows() -> Vec<Row> {
    let no_route = |case| refused(case, Problem::ExternalNoRoute);
    let expired = |case: Case| case.ended("expired", Problem::IdleExpired, "");
    vec![
        ("nobody came yet", on(None), Verdict::WaitingForUser),
        ("somebody looks", reached(on(None)), Verdict::WaitingForUser),
        ("the agent told", told(reached(on(None))), Verdict::WaitingForUser),
        ("no route", no_route(on(None)), Verdict::ExternalNoRoute),
        ("refused", refused(on(None), Problem::ExternalRefused), Verdict::ExternalRefused),
        ("timeout", refused(on(None), Problem::ExternalTimeout), Verdict::ExternalTimeout),
        ("silent", refused(on(None), Problem::ExternalSilent), Verdict::ExternalSilent),
        ("closed", refused(on(None), Problem::ExternalClosed), Verdict::ExternalClosed),
        ("wrong protocol", refused(on(None), Problem::ExternalWrongProtocol), Verdict::ExternalWrongProtocol),
        ("another cause since", refused(no_route(on(None)), Problem::ExternalSilent), Verdict::ExternalSilent),
        ("it came back", reached(no_route(on(None))), Verdict::WaitingForUser),
        ("it went away", no_route(reached(on(None))), Verdict::ExternalNoRoute),
        ("taken out", removed(), Verdict::ExternalRemoved),
        ("taken out, and refused before", no_route(removed()), Verdict::ExternalRemoved),
        ("a credential is on its way", no_route(on(None)).accepted(), Verdict::Delivering),
        ("not whole, and no desktop", no_route(on(None)).rejected("no JSON"), Verdict::CredentialInvalidFormat),
        ("never reached, given up", expired(no_route(on(None))), Verdict::ExternalNoRoute),
        ("reached, and left", expired(reached(on(None))), Verdict::IdleExpired),
        ("nobody came, given up", expired(on(None)), Verdict::IdleExpired),
        ("taken out, given up", expired(removed()), Verdict::IdleExpired),
        ("completed", no_route(on(None)).ended("completed", Problem::Completed, ""), Verdict::Completed),
        ("cancelled", no_route(on(None)).ended("cancelled", Problem::Cancelled, ""), Verdict::Cancelled),
    ]
}

#[test]
fn only_who_may_know_is_told_the_address() {
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
fn a_refusal_is_told_with_its_time_its_words_and_what_was_seen() {
    let found = refused(on(None), Problem::ExternalRefused).diagnosis();
    for words in [&at(2), "The external machine refuses connections to its desktop (seen so)."] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    let kinds: Vec<_> = found.evidence.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["desktop_connect_failed", "viewer_rejected"]);
    assert_eq!(link(&found, Component::Display), ComponentState::Failed);
}

#[test]
fn the_chain_says_of_an_external_machine_only_what_is_known_of_it() {
    let fresh = on(None).diagnosis();
    let states = [Component::Machine, Component::Channel, Component::Agent, Component::Display, Component::Cli, Component::Egress];
    let states = |found: &Diagnosis| states.map(|wanted| link(found, wanted));
    use ComponentState::{NotReached, Ok, Unknown};
    assert_eq!(states(&fresh), [Unknown, NotReached, Unknown, NotReached, Unknown, NotReached]);
    let used = told(reached(on(None))).diagnosis();
    assert_eq!(states(&used), [Ok, NotReached, Ok, Ok, Ok, NotReached]);
}
