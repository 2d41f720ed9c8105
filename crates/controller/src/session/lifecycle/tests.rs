//! The whole table: every event in every phase. What changes here changes what people live through, so it is looked at.

use super::*;
use std::fmt::Write;

fn phases() -> Vec<Phase> {
    vec![
        Phase::Line,
        Phase::Asking,
        Phase::Preparing,
        Phase::Claiming,
        Phase::Open { reachable: true },
        Phase::Open { reachable: false },
        Phase::Answering { then: Then::Replace(StopReason::Restarted) },
        Phase::Answering { then: Then::Over(Problem::Cancelled) },
        Phase::Answering { then: Then::Lost { problem: Problem::MachineFailed, detail: "d".into() } },
        Phase::Replacing,
        Phase::Clearing { problem: Problem::MachineFailed, detail: "d".into() },
        Phase::SettingBack,
        Phase::Pausing,
        Phase::Attached,
        Phase::Ending { machine: true },
        Phase::Ending { machine: false },
        Phase::Stopping,
        Phase::Over,
        Phase::Left,
    ]
}

fn events() -> Vec<Event> {
    let detail = || "d".to_owned();
    vec![
        Event::RoomGiven,
        Event::LineFull { detail: detail() },
        Event::Asked,
        Event::Started,
        Event::NotStarted { problem: Problem::NoImage, detail: detail() },
        Event::MachineNotReady,
        Event::MachineReady,
        Event::MachineDied { problem: Problem::MachineFailed, detail: detail() },
        Event::MachineGone { problem: Problem::MachineFailed, detail: detail() },
        Event::Claimed,
        Event::ClaimFailed { why: detail() },
        Event::SetBack,
        Event::Paused,
        Event::RestartAsked,
        Event::Delivery(Delivery::None),
        Event::Delivery(Delivery::InFlight),
        Event::Overdue { problem: Problem::IdleExpired, detail: detail(), patience_over: false },
        Event::Ended(Problem::Cancelled),
        Event::ServerStops,
        Event::GoneOverdue,
        Event::Unwatched,
    ]
}

fn at(phase: Phase) -> Lifecycle {
    let dead = matches!(phase, Phase::Clearing { .. });
    Lifecycle { phase, generation: 1, restarts_max: 2, delivery: Delivery::None, dead }
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
    for phase in [Phase::Over, Phase::Left] {
        for event in events() {
            let mut life = at(phase.clone());
            assert_eq!(life.on(event), Vec::new());
            assert!(life.is_over());
        }
    }
}

#[test]
fn a_session_without_another_machine_fails_with_its_last_ones_cause() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    let orders = life.on(Event::MachineGone { problem: Problem::MachineFailed, detail: "d".into() });
    let end = Order::End { how: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let (gone, cleared) = (Order::Note(Note::Gone), Order::Note(Note::Cleared));
    assert_eq!(orders, [Order::Show(Shown::NoneLeft(Problem::MachineFailed)), gone, cleared, end]);
    assert_eq!(life.on(Event::RestartAsked), Vec::new(), "there is nothing to restart");
}

#[test]
fn a_death_is_told_at_once_and_another_machine_is_asked_for_only_when_the_dead_one_is_gone() {
    let died = || Event::MachineDied { problem: Problem::MachineFailed, detail: "d".into() };
    let gone = || Event::MachineGone { problem: Problem::MachineFailed, detail: "d".into() };
    let mut life = at(Phase::Open { reachable: true });
    assert_eq!(life.on(died()), [Order::Show(Shown::Lost), Order::Note(Note::Gone), Order::AwaitGone]);
    for early in [Event::RoomGiven, Event::SetBack, Event::Paused, Event::RestartAsked, Event::MachineReady, died()] {
        assert_eq!(life.on(early), []);
    }
    let set_back = Order::SetBack { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(gone()), [Order::Note(Note::Cleared), set_back]);
    assert_eq!(life.on(gone()), [], "once");
}

#[test]
fn a_session_whose_last_machine_died_ends_at_once_and_its_owner_sees_the_machine_gone() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    let end = Order::End { how: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let died = Event::MachineDied { problem: Problem::MachineFailed, detail: "d".into() };
    let none_left = Order::Show(Shown::NoneLeft(Problem::MachineFailed));
    assert_eq!(life.on(died), [none_left, Order::Note(Note::Gone), end]);
    assert_eq!(life.on(Event::Ended(Problem::MachineFailed)), [Order::Show(Shown::Closing), Order::Shut]);
    life.on(Event::Delivery(Delivery::None));
    assert!(!life.is_over());
    let gone = Event::MachineGone { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(gone), [Order::Note(Note::Cleared)]);
    assert!(life.is_over());
}

#[test]
fn what_a_last_machine_had_delivered_is_decided_before_anybody_is_told_that_there_is_no_other() {
    let mut life = Lifecycle { generation: 3, delivery: Delivery::InFlight, ..at(Phase::Open { reachable: true }) };
    let died = Event::MachineDied { problem: Problem::MachineFailed, detail: "d".into() };
    assert_eq!(life.on(died), [Order::Note(Note::Gone)]);
    let end = Order::End { how: EndKind::Failed, problem: Problem::MachineFailed, detail: "d".into() };
    let none_left = Order::Show(Shown::NoneLeft(Problem::MachineFailed));
    assert_eq!(life.on(Event::Delivery(Delivery::None)), [none_left, end]);
}

#[test]
fn a_delivery_of_a_dead_machine_is_decided_before_the_machine_is_set_back_whichever_comes_first() {
    let died = || Event::MachineDied { problem: Problem::MachineFailed, detail: "d".into() };
    let gone = || Event::MachineGone { problem: Problem::MachineFailed, detail: "d".into() };
    let decided = || Event::Delivery(Delivery::None);
    let set_back = || Order::SetBack { problem: Problem::MachineFailed, detail: "d".into() };
    for (first, second, last) in
        [(decided(), gone(), vec![Order::Note(Note::Cleared), set_back()]), (gone(), decided(), vec![set_back()])]
    {
        let mut life = Lifecycle { delivery: Delivery::InFlight, ..at(Phase::Open { reachable: true }) };
        assert_eq!(life.on(died()), [Order::Show(Shown::Lost), Order::Note(Note::Gone)]);
        assert!(!life.on(first).contains(&set_back()));
        assert_eq!(life.on(second), last);
    }
}

#[test]
fn a_wish_for_another_machine_never_costs_the_session_its_last_one() {
    let mut life = Lifecycle { generation: 3, ..at(Phase::Open { reachable: true }) };
    assert_eq!(life.on(Event::RestartAsked), [Order::Note(Note::RestartRefused(RestartRefused::NoneLeft))]);
    let mut life = Lifecycle { delivery: Delivery::Offered, ..at(Phase::Open { reachable: true }) };
    assert_eq!(life.on(Event::RestartAsked), [Order::Note(Note::RestartRefused(RestartRefused::Delivering))]);
}

#[test]
fn the_pauses_between_machines_grow_to_a_bound() {
    let pauses: Vec<_> = (2..12)
        .map(|generation| {
            let mut life = Lifecycle { generation, ..at(Phase::SettingBack) };
            match life.on(Event::SetBack).as_slice() {
                [Order::Pause { ms }] => *ms,
                [Order::Stand] => 0,
                other => unreachable!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(pauses, [0, 200, 400, 800, 1600, 3200, 6400, 6400, 6400, 6400]);
}

#[test]
fn a_row_without_an_owner_begins_where_its_facts_put_it() {
    assert_eq!(beginning(true, false, false), Beginning::Attached);
    assert_eq!(beginning(false, false, false), Beginning::Line);
    assert_eq!(beginning(false, true, false), Beginning::Lost);
    assert_eq!(beginning(false, true, true), Beginning::Adopted);
}
