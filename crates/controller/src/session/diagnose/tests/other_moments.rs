//! More cases for verdicts with few causes: the same cause at other times and with other entries.

use super::*;
use anteroom_wire::TimelineKind;

fn external_case() -> Case {
    let mut case = Case::new().at(Progress::Open { channels: () });
    case.row.external_machine = Some("desk".to_owned());
    case.external = Some(ExternalMachineConfig { is_configured: true, address: None });
    case
}

fn dialled(case: Case, problem: Option<Problem>) -> Case {
    let code = problem.map(Problem::code);
    let kind = if problem.is_some() { TimelineKind::DesktopConnectFailed } else { TimelineKind::DesktopConnected };
    let case = case.entry(kind, json!({ "machine": "desk", "reason": code, "detail": null, "after_ms": 3 }));
    case.viewer(if problem.is_some() { TimelineKind::ViewerRejected } else { TimelineKind::ViewerJoined }, problem)
}

/// External desktops that were never reached, became unreachable, or failed before for another reason.
fn external_rows() -> Vec<Row> {
    let faults = [
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
    let mut rows = Vec::new();
    for (problem, verdict) in faults {
        rows.push((
            "an external desktop that went away",
            dialled(dialled(external_case(), None), Some(problem)),
            verdict,
        ));
        let other = dialled(external_case(), Some(Problem::ExternalNoRoute));
        rows.push(("an external desktop with another cause before", dialled(other, Some(problem)), verdict));
        let expired = dialled(external_case(), Some(problem)).ended(TimelineKind::Expired, EndReason::IdleExpired, "");
        rows.push(("an external desktop, expired", expired, verdict));
    }
    let mut removed = dialled(dialled(external_case(), None), Some(Problem::ExternalRefused));
    removed.external = Some(ExternalMachineConfig { is_configured: false, address: None });
    rows.push(("removed after use", removed, Verdict::ExternalRemoved));
    rows
}

pub(super) fn rows() -> Vec<Row> {
    let low = |case: Case| case.entry(TimelineKind::MemoryLow, json!({ "available_mib": 40, "some_avg10": 31.5 }));
    let no_image = |case: Case| case.entry(TimelineKind::MachineStartFailed, json!({})).failed(EndReason::NoImage);
    let replaced = Case::running()
        .machine_exited(&ExitReason::GuestPanic)
        .entry(TimelineKind::MachineRequested, json!({ "generation": 2 }));
    let mut rows = external_rows();
    rows.extend([
        (
            "little memory with a viewer",
            low(Case::running().viewer(TimelineKind::ViewerJoined, None)),
            Verdict::GuestMemoryLow,
        ),
        (
            "little memory after noise",
            low(Case::running().egress_failed("ads.example", Problem::EgressDenied)),
            Verdict::GuestMemoryLow,
        ),
        ("no image for the second machine", no_image(replaced.clone()), Verdict::NoImage),
        (
            "no image and a viewer",
            no_image(Case::requested().viewer(TimelineKind::ViewerRejected, Some(Problem::NotReady))),
            Verdict::NoImage,
        ),
        (
            "the server restarted at the second machine",
            replaced.clone().failed(EndReason::ControllerRestarted),
            Verdict::ServerRestarted,
        ),
        (
            "the provider was removed while queued",
            Case::new().failed(EndReason::ProviderRemoved),
            Verdict::ProviderRemoved,
        ),
        (
            "the provider was removed at the second machine",
            replaced.clone().failed(EndReason::ProviderRemoved),
            Verdict::ProviderRemoved,
        ),
        ("supervisor lost at the second machine", replaced.failed(EndReason::Internal), Verdict::InternalError),
    ]);
    rows
}
