//! The whole table: every event in every phase. What changes here changes what people live through, so it is looked at.

use super::*;
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
        Phase::DrainingDelivery { then: AfterDrain::Finish(Problem::Cancelled) },
        Phase::DrainingDelivery {
            then: AfterDrain::MachineLost { problem: Problem::MachineFailed, detail: "d".into() },
        },
        Phase::Replacing,
        Phase::CleaningUp { problem: Problem::MachineFailed, detail: "d".into() },
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
        Event::QueueFull { detail: detail() },
        Event::RequestRecorded,
        Event::MachineStarted,
        Event::StartFailed { problem: Problem::NoImage, detail: detail() },
        Event::MachineNotReady,
        Event::MachineReady,
        Event::MachineExited { problem: Problem::MachineFailed, detail: detail() },
        Event::MachineRemoved { problem: Problem::MachineFailed, detail: detail() },
        Event::Claimed,
        Event::ClaimFailed { why: detail() },
        Event::ReplacementRecorded,
        Event::BackoffElapsed,
        Event::RestartRequested,
        Event::DeliveryChanged(Delivery::None),
        Event::DeliveryChanged(Delivery::InFlight),
        Event::DeadlinePassed { problem: Problem::IdleExpired, detail: detail(), hold_expired: false },
        Event::SessionEnded(Problem::Cancelled),
        Event::ServerStopping,
        Event::CleanupTimedOut,
        Event::WatcherClosed,
    ]
}

fn at(phase: Phase) -> Lifecycle {
    let exited = matches!(phase, Phase::CleaningUp { .. });
    Lifecycle { phase, generation: 1, restarts_max: 2, delivery: Delivery::None, exited }
}

#[test]
fn every_event_in_every_phase_does_what_the_table_says() {
    let mut table = String::new();
    for phase in phases() {
        writeln!(table, "{phase:?}").unwrap();
        for event in events() {
            let mut life = at(phase.clone());
            let orders = life.on(event.clone());
            if life != at(phase.clone()) || !orders.is_empty() {
                let delivery = if life.delivery == Delivery::None { "" } else { " (a delivery is being answered)" };
                writeln!(table, "    {event:?} -> {:?}{delivery} {orders:?}", life.phase).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_is_over_stays_over() {
    for phase in [Phase::Finished, Phase::Detached] {
        for event in events() {
            let mut life = at(phase.clone());
            assert_eq!(life.on(event), Vec::new());
            assert!(life.is_finished());
        }
    }
}

#[test]
fn a_session_without_another_machine_fails_with_its_last_ones_cause() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    let orders = life.on(Event::MachineRemoved { problem: Problem::MachineFailed, detail: "d".into() });
    let end = Command::EndSession { kind: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let (gone, cleared) = (Command::Record(Entry::MachineExited), Command::Record(Entry::MachineRemoved));
    assert_eq!(orders, [Command::Publish(PublishedState::NoMachineLeft(Problem::MachineFailed)), gone, cleared, end]);
    assert_eq!(life.on(Event::RestartRequested), Vec::new(), "there is nothing to restart");
}

#[test]
fn a_death_is_told_at_once_and_another_machine_is_asked_for_only_when_the_dead_one_is_gone() {
    let died = || Event::MachineExited { problem: Problem::MachineFailed, detail: "d".into() };
    let gone = || Event::MachineRemoved { problem: Problem::MachineFailed, detail: "d".into() };
    let mut life = at(Phase::Open { reachable: true });
    assert_eq!(
        life.on(died()),
        [Command::Publish(PublishedState::Lost), Command::Record(Entry::MachineExited), Command::AwaitCleanup]
    );
    for early in [
        Event::PermitGranted,
        Event::ReplacementRecorded,
        Event::BackoffElapsed,
        Event::RestartRequested,
        Event::MachineReady,
        died(),
    ] {
        assert_eq!(life.on(early), []);
    }
    let set_back = Command::RecordReplacement { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(gone()), [Command::Record(Entry::MachineRemoved), set_back]);
    assert_eq!(life.on(gone()), [], "once");
}

#[test]
fn a_session_whose_last_machine_died_ends_at_once_and_its_owner_sees_the_machine_gone() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    let end = Command::EndSession { kind: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let died = Event::MachineExited { problem: Problem::MachineFailed, detail: "d".into() };
    let none_left = Command::Publish(PublishedState::NoMachineLeft(Problem::MachineFailed));
    assert_eq!(life.on(died), [none_left, Command::Record(Entry::MachineExited), end]);
    assert_eq!(
        life.on(Event::SessionEnded(Problem::MachineFailed)),
        [Command::Publish(PublishedState::Closing), Command::StopDeliveries]
    );
    life.on(Event::DeliveryChanged(Delivery::None));
    assert!(!life.is_finished());
    let gone = Event::MachineRemoved { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(gone), [Command::Record(Entry::MachineRemoved)]);
    assert!(life.is_finished());
}

#[test]
fn what_a_last_machine_had_delivered_is_decided_before_anybody_is_told_that_there_is_no_other() {
    let mut life = Lifecycle { generation: 3, delivery: Delivery::InFlight, ..at(Phase::Open { reachable: true }) };
    let died = Event::MachineExited { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(died), [Command::Record(Entry::MachineExited)]);
    let end = Command::EndSession { kind: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let none_left = Command::Publish(PublishedState::NoMachineLeft(Problem::MachineFailed));
    assert_eq!(life.on(Event::DeliveryChanged(Delivery::None)), [none_left, end]);
}

#[test]
fn a_delivery_of_a_dead_machine_is_decided_before_the_machine_is_set_back_whichever_comes_first() {
    let died = || Event::MachineExited { problem: Problem::MachineFailed, detail: "d".into() };
    let gone = || Event::MachineRemoved { problem: Problem::MachineFailed, detail: "d".into() };
    let decided = || Event::DeliveryChanged(Delivery::None);
    let set_back = || Command::RecordReplacement { problem: Problem::MachineFailed, detail: "d".into() };
    for (first, second, last) in [
        (decided(), gone(), vec![Command::Record(Entry::MachineRemoved), set_back()]),
        (gone(), decided(), vec![set_back()]),
    ] {
        let mut life = Lifecycle { delivery: Delivery::InFlight, ..at(Phase::Open { reachable: true }) };
        assert_eq!(life.on(died()), [Command::Publish(PublishedState::Lost), Command::Record(Entry::MachineExited)]);
        assert!(!life.on(first).contains(&set_back()));
        assert_eq!(life.on(second), last);
    }
}

#[test]
fn a_wish_for_another_machine_never_costs_the_session_its_last_one() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    assert_eq!(
        life.on(Event::RestartRequested),
        [Command::Record(Entry::RestartRejected(RestartRejection::NoMachineLeft))]
    );
    let mut life = Lifecycle { delivery: Delivery::Pending, ..at(Phase::Open { reachable: true }) };
    assert_eq!(
        life.on(Event::RestartRequested),
        [Command::Record(Entry::RestartRejected(RestartRejection::DeliveryPending))]
    );
}

#[test]
fn the_pauses_between_machines_grow_to_a_bound() {
    let pauses: Vec<_> = (2..12)
        .map(|generation| {
            let mut life = Lifecycle { generation, ..at(Phase::RecordingReplacement) };
            match life.on(Event::ReplacementRecorded).as_slice() {
                [Command::BackOff { ms }] => *ms,
                [Command::Enqueue] => 0,
                other => unreachable!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(pauses, [0, 200, 400, 800, 1600, 3200, 6400, 6400, 6400, 6400]);
}

#[test]
fn a_row_without_an_owner_begins_where_its_facts_put_it() {
    assert_eq!(initial_state(true, false, false), InitialState::Attached);
    assert_eq!(initial_state(false, false, false), InitialState::Queued);
    assert_eq!(initial_state(false, true, false), InitialState::Lost);
    assert_eq!(initial_state(false, true, true), InitialState::Adopted);
}
