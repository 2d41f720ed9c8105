//! The transition table: every event in every phase, as a snapshot that is reviewed when it changes.

use super::*;
use crate::session::status::Progress;
use std::fmt::Write;

fn phases() -> Vec<Phase> {
    vec![
        Phase::Queued,
        Phase::Requesting,
        Phase::Preparing,
        Phase::Claiming,
        Phase::Open { reachable: true },
        Phase::Open { reachable: false },
        Phase::DrainingDelivery { then: AfterDrain::Replace(StopReason::Restarted) },
        Phase::DrainingDelivery { then: AfterDrain::Finish(EndReason::Cancelled) },
        Phase::DrainingDelivery {
            then: AfterDrain::MachineLost { reason: EndReason::MachineFailed, detail: "d".into() },
        },
        Phase::Replacing,
        Phase::CleaningUp { reason: EndReason::MachineFailed, detail: "d".into() },
        Phase::RecordingReplacement,
        Phase::BackingOff,
        Phase::Attached,
        Phase::Ending { machine: true },
        Phase::Ending { machine: false },
        Phase::Stopping,
        Phase::Finished,
        Phase::Detached,
    ]
}

fn events() -> Vec<Event> {
    let detail = || "d".to_owned();
    vec![
        Event::PermitGranted,
        Event::QueueTimedOut { reason: EndReason::NoCapacity, detail: detail() },
        Event::RequestRecorded,
        Event::MachineStarted,
        Event::StartFailed { reason: EndReason::NoImage, detail: detail() },
        Event::MachineNotReady,
        Event::MachineReady,
        Event::MachineExited { reason: EndReason::MachineFailed, detail: detail() },
        Event::MachineRemoved { reason: EndReason::MachineFailed, detail: detail() },
        Event::Claimed,
        Event::ClaimFailed { why: detail() },
        Event::ReplacementRecorded,
        Event::BackoffElapsed,
        Event::RestartRequested,
        Event::DeliveryChanged(DeliveryState::None),
        Event::DeliveryChanged(DeliveryState::InFlight),
        Event::DeadlinePassed { reason: EndReason::IdleExpired, detail: detail(), hold_expired: false },
        Event::SessionEnded(EndReason::Cancelled),
        Event::ServerStopping,
        Event::CleanupTimedOut,
        Event::WatcherClosed,
    ]
}

fn in_phase(phase: Phase) -> Lifecycle {
    let exited = matches!(phase, Phase::CleaningUp { .. });
    Lifecycle { phase, generation: 1, restarts_max: 2, delivery: DeliveryState::None, exited }
}

#[test]
fn every_event_in_every_phase_matches_the_table() {
    let mut table = String::new();
    for phase in phases() {
        writeln!(table, "{phase:?}").unwrap();
        for event in events() {
            let mut lifecycle = in_phase(phase.clone());
            let commands = lifecycle.handle_event(event.clone());
            if lifecycle != in_phase(phase.clone()) || !commands.is_empty() {
                let delivery =
                    if lifecycle.delivery == DeliveryState::None { "" } else { " (a delivery is being answered)" };
                writeln!(table, "    {event:?} -> {:?}{delivery} {commands:?}", lifecycle.phase).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn progress_is_published_only_in_phases_from_which_one_follows_and_first() {
    for (phase, event) in
        phases().into_iter().flat_map(|phase| events().into_iter().map(move |event| (phase.clone(), event)))
    {
        let mut lifecycle = in_phase(phase);
        let commands = lifecycle.handle_event(event);
        if let Some(at) = commands.iter().position(|command| *command == Command::PublishProgress) {
            assert_eq!(at, 0, "{commands:?}");
            assert!(Progress::<()>::from_phase(lifecycle.phase(), None).is_some(), "{:?}", lifecycle.phase());
        }
    }
}

#[test]
fn finished_phases_ignore_all_events() {
    for phase in [Phase::Finished, Phase::Detached] {
        for event in events() {
            let mut lifecycle = in_phase(phase.clone());
            assert_eq!(lifecycle.handle_event(event), Vec::new());
            assert!(lifecycle.is_finished());
        }
    }
}

#[test]
fn a_session_without_another_machine_fails_with_the_cause_of_its_last_machine() {
    let mut lifecycle = Lifecycle { generation: 3, ..in_phase(Phase::Open { reachable: true }) };
    let commands =
        lifecycle.handle_event(Event::MachineRemoved { reason: EndReason::MachineFailed, detail: "d".into() });
    let end = Command::EndSession { reason: EndReason::MachineFailed, detail: "d".into() };
    let (exited, removed) = (Command::Record(Entry::MachineExited), Command::Record(Entry::MachineRemoved));
    assert_eq!(commands, [Command::CloseSockets(EndReason::MachineFailed), exited, removed, end]);
    assert_eq!(lifecycle.handle_event(Event::RestartRequested), Vec::new(), "there is nothing to restart");
}

#[test]
fn an_exit_is_published_at_once_and_the_next_machine_is_requested_only_after_removal() {
    let exited_event = || Event::MachineExited { reason: EndReason::MachineFailed, detail: "d".into() };
    let removed = || Event::MachineRemoved { reason: EndReason::MachineFailed, detail: "d".into() };
    let mut lifecycle = in_phase(Phase::Open { reachable: true });
    assert_eq!(
        lifecycle.handle_event(exited_event()),
        [Command::PublishMachineLost, Command::Record(Entry::MachineExited), Command::AwaitCleanup]
    );
    for early in [
        Event::PermitGranted,
        Event::ReplacementRecorded,
        Event::BackoffElapsed,
        Event::RestartRequested,
        Event::MachineReady,
        exited_event(),
    ] {
        assert_eq!(lifecycle.handle_event(early), []);
    }
    let record_replacement = Command::RecordReplacement { reason: EndReason::MachineFailed, detail: "d".into() };
    assert_eq!(lifecycle.handle_event(removed()), [Command::Record(Entry::MachineRemoved), record_replacement]);
    assert_eq!(lifecycle.handle_event(removed()), [], "once");
}

#[test]
fn a_session_whose_last_machine_exited_ends_at_once_and_its_supervisor_waits_for_removal() {
    let mut lifecycle = Lifecycle { generation: 3, ..in_phase(Phase::Open { reachable: true }) };
    let end = Command::EndSession { reason: EndReason::MachineFailed, detail: "d".into() };
    let exited_event = Event::MachineExited { reason: EndReason::MachineFailed, detail: "d".into() };
    let no_machine_left = Command::CloseSockets(EndReason::MachineFailed);
    assert_eq!(lifecycle.handle_event(exited_event), [no_machine_left, Command::Record(Entry::MachineExited), end]);
    assert_eq!(
        lifecycle.handle_event(Event::SessionEnded(EndReason::MachineFailed)),
        [Command::PublishProgress, Command::StopAwaitingDeliveries]
    );
    lifecycle.handle_event(Event::DeliveryChanged(DeliveryState::None));
    assert!(!lifecycle.is_finished());
    let removed = Event::MachineRemoved { reason: EndReason::MachineFailed, detail: "d".into() };
    assert_eq!(lifecycle.handle_event(removed), [Command::Record(Entry::MachineRemoved)]);
    assert!(lifecycle.is_finished());
}

#[test]
fn delivery_is_decided_before_final_failure_is_published() {
    let mut lifecycle =
        Lifecycle { generation: 3, delivery: DeliveryState::InFlight, ..in_phase(Phase::Open { reachable: true }) };
    let exited_event = Event::MachineExited { reason: EndReason::MachineFailed, detail: "d".into() };
    assert_eq!(lifecycle.handle_event(exited_event), [Command::Record(Entry::MachineExited)]);
    let end = Command::EndSession { reason: EndReason::MachineFailed, detail: "d".into() };
    let no_machine_left = Command::CloseSockets(EndReason::MachineFailed);
    assert_eq!(lifecycle.handle_event(Event::DeliveryChanged(DeliveryState::None)), [no_machine_left, end]);
}

#[test]
fn a_compromised_machine_is_not_replaced_although_machines_are_left() {
    let reason = EndReason::MachineCompromised;
    let exited = || Event::MachineExited { reason, detail: "ptrace".into() };
    let end = Command::EndSession { reason, detail: "ptrace".into() };
    for phase in [Phase::Preparing, Phase::Claiming, Phase::Open { reachable: true }, Phase::Replacing] {
        let commands = in_phase(phase).handle_event(exited());
        assert_eq!(commands, [Command::CloseSockets(reason), Command::Record(Entry::MachineExited), end.clone()]);
    }
    // A delivery that arrived before is still answered.
    let mut lifecycle = Lifecycle { delivery: DeliveryState::InFlight, ..in_phase(Phase::Open { reachable: true }) };
    assert_eq!(lifecycle.handle_event(exited()), [Command::Record(Entry::MachineExited)]);
    let answered = lifecycle.handle_event(Event::DeliveryChanged(DeliveryState::None));
    assert_eq!(answered, [Command::CloseSockets(reason), end]);
}

#[test]
fn a_delivery_of_an_exited_machine_is_decided_before_the_machine_is_replaced() {
    let exited_event = || Event::MachineExited { reason: EndReason::MachineFailed, detail: "d".into() };
    let removed = || Event::MachineRemoved { reason: EndReason::MachineFailed, detail: "d".into() };
    let answered = || Event::DeliveryChanged(DeliveryState::None);
    let record_replacement = || Command::RecordReplacement { reason: EndReason::MachineFailed, detail: "d".into() };
    for (first, second, last) in [
        (answered(), removed(), vec![Command::Record(Entry::MachineRemoved), record_replacement()]),
        (removed(), answered(), vec![record_replacement()]),
    ] {
        let mut lifecycle =
            Lifecycle { delivery: DeliveryState::InFlight, ..in_phase(Phase::Open { reachable: true }) };
        assert_eq!(
            lifecycle.handle_event(exited_event()),
            [Command::PublishMachineLost, Command::Record(Entry::MachineExited)]
        );
        assert!(!lifecycle.handle_event(first).contains(&record_replacement()));
        assert_eq!(lifecycle.handle_event(second), last);
    }
}

#[test]
fn a_restart_request_never_uses_up_the_last_machine() {
    let mut lifecycle = Lifecycle { generation: 3, ..in_phase(Phase::Open { reachable: true }) };
    assert_eq!(
        lifecycle.handle_event(Event::RestartRequested),
        [Command::Record(Entry::RestartRejected(RestartRejection::NoMachineLeft))]
    );
    let mut lifecycle = Lifecycle { delivery: DeliveryState::Pending, ..in_phase(Phase::Open { reachable: true }) };
    assert_eq!(
        lifecycle.handle_event(Event::RestartRequested),
        [Command::Record(Entry::RestartRejected(RestartRejection::DeliveryPending))]
    );
}

#[test]
fn the_waits_between_machines_grow_to_a_limit() {
    let waits: Vec<_> = (2..12)
        .map(|generation| {
            let mut lifecycle = Lifecycle { generation, ..in_phase(Phase::RecordingReplacement) };
            match lifecycle.handle_event(Event::ReplacementRecorded).as_slice() {
                [Command::BackOff { ms }] => *ms,
                [Command::Enqueue] => 0,
                other => unreachable!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(waits, [0, 200, 400, 800, 1600, 3200, 6400, 6400, 6400, 6400]);
}

#[test]
fn the_initial_state_follows_from_the_row_and_its_machine() {
    assert_eq!(initial_state(true, false, false), InitialState::Attached);
    assert_eq!(initial_state(false, false, false), InitialState::Queued);
    assert_eq!(initial_state(false, true, false), InitialState::Lost);
    assert_eq!(initial_state(false, true, true), InitialState::Adopted);
}
