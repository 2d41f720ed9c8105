//! Active sessions.

use super::*;
use anteroom_wire::{TimelineKind, agent::Stage};

fn waits(case: Case, stage: Stage) -> Case {
    case.at(Progress::Preparing { stage })
}

/// A machine exited and the session continues.
fn replaced(why: &ExitReason) -> Case {
    let mut case = Case::running().machine_exited(why).entry(TimelineKind::MachineReplaced, json!({ "generation": 2 }));
    case.row.generation = 2;
    case.row.status =
        RowStatus::Active { replacement_reason: Some(Reason::new(EndReason::MachineFailed, why.to_string())) };
    case.at(Progress::Lost)
}

fn second(why: &ExitReason) -> Case {
    replaced(why).entry(TimelineKind::MachineRequested, json!({ "generation": 2 }))
}

fn without_supervisor(mut case: Case) -> Case {
    case.supervisor = None;
    case
}

fn silent(mut case: Case) -> Case {
    case.supervisor.as_mut().unwrap().agent_error = Some("no answer in 2000 ms".into());
    case
}

fn watched(case: Case, viewers: u32) -> Case {
    let mut case = case.viewer(TimelineKind::ViewerJoined, None);
    case.supervisor.as_mut().unwrap().desktop_viewers = viewers;
    case
}

/// What the page noticed of a reverse proxy.
fn noticed(problem: Problem) -> Case {
    Case::running().entry(TimelineKind::ProxyFault, json!({ "reason": problem.code(), "by": "page" }))
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let killed = ExitReason::Killed { signal: 9 };
    let stage_failed =
        |case: Case| case.entry(TimelineKind::StageFailed, json!({ "stage": "display", "error": "refused" }));
    let left = |case: Case, problem| case.viewer(TimelineKind::ViewerDisconnected, Some(problem));
    let noise = Case::running().egress_failed("ads.example", Problem::EgressDenied);
    let reached = Case::running().entry(TimelineKind::EgressAllowed, json!({ "host": "a.example", "port": 443 }));
    let adopted = waits(Case::requested().entry(TimelineKind::MachineAdopted, json!({})), Stage::Channel);
    vec![
        ("queued", Case::new().at(Progress::Queued { position: 1 }), Verdict::WaitingForCapacity),
        ("far back in the queue", Case::new().at(Progress::Queued { position: 9 }), Verdict::WaitingForCapacity),
        ("queued again", replaced(&killed).at(Progress::Queued { position: 2 }), Verdict::WaitingForCapacity),
        ("no process yet", Case::requested(), Verdict::MachineStarting),
        ("waits for hello", waits(Case::requested(), Stage::Hello), Verdict::MachineStarting),
        ("is being claimed", Case::requested().at(Progress::Claiming { channels: () }), Verdict::MachineStarting),
        ("lost", replaced(&killed), Verdict::MachineBeingReplaced),
        ("lost by panic", replaced(&ExitReason::GuestPanic), Verdict::MachineBeingReplaced),
        ("the second starts", waits(second(&killed), Stage::Display), Verdict::MachineBeingReplaced),
        (
            "restart requested",
            waits(Case::running().entry(TimelineKind::RestartRequested, json!({})), Stage::Process),
            Verdict::MachineBeingReplaced,
        ),
        ("the channel broke", waits(Case::running(), Stage::Channel), Verdict::AgentUnreachable),
        (
            "the channel broke for a known reason",
            waits(
                Case::running().entry(TimelineKind::ChannelLost, json!({ "error": "no answer to pings for 6000 ms" })),
                Stage::Channel,
            ),
            Verdict::AgentUnreachable,
        ),
        ("the agent went quiet", waits(Case::running(), Stage::Hello), Verdict::AgentUnreachable),
        ("an adopted machine's channel broke", adopted, Verdict::AgentUnreachable),
        ("an agent that does not answer", silent(Case::running()), Verdict::AgentUnreachable),
        ("a tool that failed, and a silent agent", silent(Case::running().exited(1, &[])), Verdict::CliFailed),
        ("no supervisor yet", without_supervisor(Case::running()), Verdict::Resuming),
        ("no supervisor while queued", without_supervisor(Case::new()), Verdict::Resuming),
        ("supervisor stopping", Case::running().at(Progress::Closing), Verdict::Resuming),
        ("a desktop that is away", left(Case::running(), Problem::DesktopUnreachable), Verdict::DesktopUnreachable),
        (
            "a display that fails",
            left(stage_failed(Case::running()), Problem::DesktopUnreachable),
            Verdict::DesktopUnreachable,
        ),
        (
            "a stream that cannot be opened",
            left(Case::running(), Problem::AgentUnreachable),
            Verdict::DesktopUnreachable,
        ),
        ("the tool starts", Case::ready(), Verdict::WaitingForUser),
        ("the tool runs", Case::running(), Verdict::WaitingForUser),
        (
            "an address is shown",
            Case::running().entry(TimelineKind::SignInUrl, json!({ "host": "id.example" })),
            Verdict::WaitingForUser,
        ),
        ("a viewer is connected", watched(Case::running(), 1), Verdict::WaitingForUser),
        (
            "a desktop that is back",
            watched(left(Case::running(), Problem::DesktopUnreachable), 1)
                .viewer(TimelineKind::ViewerDisconnected, None),
            Verdict::WaitingForUser,
        ),
        (
            "one viewer too many",
            Case::running().viewer(TimelineKind::ViewerRejected, Some(Problem::TooManyViewers)),
            Verdict::WaitingForUser,
        ),
        (
            "a reverse proxy without WebSockets",
            Case::running().viewer(TimelineKind::ViewerRejected, Some(Problem::ProxyWithoutUpgrade)),
            Verdict::ProxyWithoutUpgrade,
        ),
        (
            "… and before that a viewer",
            Case::running()
                .viewer(TimelineKind::ViewerDisconnected, None)
                .viewer(TimelineKind::ViewerRejected, Some(Problem::ProxyWithoutUpgrade)),
            Verdict::ProxyWithoutUpgrade,
        ),
        (
            "… again and again",
            Case::running()
                .viewer(TimelineKind::ViewerRejected, Some(Problem::ProxyWithoutUpgrade))
                .viewer(TimelineKind::ViewerRejected, Some(Problem::ProxyWithoutUpgrade)),
            Verdict::ProxyWithoutUpgrade,
        ),
        (
            "… and after that a viewer",
            Case::running()
                .viewer(TimelineKind::ViewerRejected, Some(Problem::ProxyWithoutUpgrade))
                .viewer(TimelineKind::ViewerJoined, None),
            Verdict::WaitingForUser,
        ),
        ("a reverse proxy that buffers", noticed(Problem::ProxyBuffers), Verdict::ProxyFault),
        ("a reverse proxy that refuses large requests", noticed(Problem::ProxyBodyLimit), Verdict::ProxyFault),
        ("a link without its fragment", noticed(Problem::LinkWithoutFragment), Verdict::ProxyFault),
        (
            "… and after that a viewer",
            noticed(Problem::LinkWithoutFragment).viewer(TimelineKind::ViewerJoined, None),
            Verdict::WaitingForUser,
        ),
        ("noise at the gate", noise, Verdict::WaitingForUser),
        (
            "one name away, another reached",
            reached.egress_failed("b.example", Problem::EgressUnreachable),
            Verdict::WaitingForUser,
        ),
        (
            "the second machine works",
            second(&killed).entry(TimelineKind::MachineReady, json!({})).at(Progress::Open { channels: () }),
            Verdict::WaitingForUser,
        ),
        (
            "the channel is back",
            Case::running().entry(TimelineKind::ChannelReopened, json!({})),
            Verdict::WaitingForUser,
        ),
    ]
}

#[test]
fn queue_position_is_reported() {
    let found = Case::new().at(Progress::Queued { position: 3 }).diagnosis();
    assert!(found.sentence.contains("number 3 in the queue"), "{}", found.sentence);
    assert_eq!(state_of(&found, Component::Machine), ComponentState::Waiting);
    assert_eq!(state_of(&found, Component::Channel), ComponentState::NotReached);
}

#[test]
fn starting_machine_names_its_stage_and_later_components_are_not_reached() {
    let found = waits(Case::requested(), Stage::Hello).diagnosis();
    assert!(found.sentence.contains("Hello"), "{}", found.sentence);
    for (which, state) in [
        (Component::Machine, ComponentState::Ok),
        (Component::Channel, ComponentState::Ok),
        (Component::Agent, ComponentState::Waiting),
        (Component::Display, ComponentState::NotReached),
        (Component::Cli, ComponentState::NotReached),
    ] {
        assert_eq!(state_of(&found, which), state, "{which:?}");
    }
}

#[test]
fn replacement_reports_the_exit_of_the_previous_machine() {
    let found = waits(second(&ExitReason::Killed { signal: 9 }), Stage::Channel).diagnosis();
    for part in ["killed by signal 9", &at(5), "machine 2 is starting", "Channel"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
}

#[test]
fn unrelated_denied_request_is_listed_and_is_not_a_failure() {
    let found = Case::running().egress_failed("ads.example", Problem::EgressDenied).diagnosis();
    assert_eq!(state_of(&found, Component::Egress), ComponentState::Ok);
    assert!(found.chain.iter().any(|status| status.detail.contains("ads.example:443")));
}

#[test]
fn no_component_is_running_between_two_machines() {
    let killed = ExitReason::Killed { signal: 9 };
    for case in [replaced(&killed), replaced(&killed).at(Progress::Queued { position: 1 })] {
        let found = case.diagnosis();
        let status = |component| found.chain.iter().find(|status| status.component == component).unwrap();
        for part in [Component::Channel, Component::Agent, Component::Display, Component::Cli] {
            assert_eq!(status(part).state, ComponentState::NotReached, "{found:#?}");
        }
    }
}
