//! Further ways into verdicts that have few of their own: other moments, other neighbours, the same cause.

use super::*;

fn outside() -> Case {
    let mut case = Case::new().at(MachineProgress::Open);
    case.row.external_machine = Some("desk".to_owned());
    case.external = Some(ExternalMachineConfig { is_configured: true, address: None });
    case
}

fn met(case: Case, problem: Option<Problem>) -> Case {
    let code = problem.map(Problem::code);
    let kind = if problem.is_some() { "desktop_connect_failed" } else { "desktop_connected" };
    let case = case.entry(kind, json!({ "machine": "desk", "reason": code, "detail": null, "after_ms": 3 }));
    case.viewer(if problem.is_some() { "viewer_rejected" } else { "viewer_joined" }, problem)
}

/// An outside desktop that was never reached, went away, and failed for another reason before.
fn outside_rows() -> Vec<Row> {
    let faults = [
        (Problem::ExternalRefused, Verdict::ExternalRefused),
        (Problem::ExternalTimeout, Verdict::ExternalTimeout),
        (Problem::ExternalSilent, Verdict::ExternalSilent),
        (Problem::ExternalClosed, Verdict::ExternalClosed),
        (Problem::ExternalWrongProtocol, Verdict::ExternalWrongProtocol),
    ];
    let mut rows = Vec::new();
    for (problem, verdict) in faults {
        rows.push(("an outside desktop that went away", met(met(outside(), None), Some(problem)), verdict));
        let other = met(outside(), Some(Problem::ExternalNoRoute));
        rows.push(("an outside desktop with another cause before", met(other, Some(problem)), verdict));
        let expired = met(outside(), Some(problem)).ended("expired", Problem::IdleExpired, "");
        rows.push(("an outside desktop that was given up", expired, verdict));
    }
    let mut removed = met(met(outside(), None), Some(Problem::ExternalRefused));
    removed.external = Some(ExternalMachineConfig { is_configured: false, address: None });
    rows.push(("taken out after it was used", removed, Verdict::ExternalRemoved));
    rows
}

pub(super) fn rows() -> Vec<Row> {
    let low = |case: Case| case.entry("memory_low", json!({ "available_mib": 40, "some_avg10": 31.5 }));
    let no_image = |case: Case| case.entry("machine_start_failed", json!({})).failed(Problem::NoImage);
    let replaced = Case::running().gone(&ExitReason::GuestPanic).entry("machine_requested", json!({ "generation": 2 }));
    let mut rows = outside_rows();
    rows.extend([
        ("little memory with a viewer", low(Case::running().viewer("viewer_joined", None)), Verdict::GuestMemoryLow),
        (
            "little memory after noise",
            low(Case::running().refused("ads.example", Problem::EgressDenied)),
            Verdict::GuestMemoryLow,
        ),
        ("no image for the second machine", no_image(replaced.clone()), Verdict::NoImage),
        (
            "no image and a viewer",
            no_image(Case::asked().viewer("viewer_rejected", Some(Problem::NotReady))),
            Verdict::NoImage,
        ),
        (
            "the server restarted at the second machine",
            replaced.clone().failed(Problem::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        ("the provider is gone in line", Case::new().failed(Problem::ProviderUnavailable), Verdict::ProviderRemoved),
        (
            "the provider is gone at the second machine",
            replaced.clone().failed(Problem::ProviderUnavailable),
            Verdict::ProviderRemoved,
        ),
        ("an owner lost at the second machine", replaced.failed(Problem::Internal), Verdict::InternalError),
    ]);
    rows
}
