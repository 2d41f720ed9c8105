//! The model check: every order of events within bounds, and long random runs beyond them.

use super::{Bounds, SessionModel, Step};
use anteroom_wire::EndReason;
use proptest::prelude::*;
use stateright::{Checker, Model, Property};
use std::collections::{HashMap, VecDeque};

/// All states that a session can reach within bounds.
#[derive(Clone)]
struct Sessions(Bounds);

impl Model for Sessions {
    type State = SessionModel;
    type Action = Step;

    fn init_states(&self) -> Vec<SessionModel> {
        vec![SessionModel::new(self.0)]
    }

    fn actions(&self, model: &SessionModel, actions: &mut Vec<Step>) {
        actions.extend(model.steps());
    }

    fn next_state(&self, model: &SessionModel, step: Step) -> Option<SessionModel> {
        let mut next = model.clone();
        next.apply(&step);
        (next != *model).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no guarantee is violated", |_, model: &SessionModel| model.violation.is_none()),
            Property::always("at most one machine runs", |_, model: &SessionModel| model.running_machines() <= 1),
            Property::always("a session ends once", |_, model: &SessionModel| model.row.ends <= 1),
            Property::always("completed and stored are the same", |_, model: &SessionModel| {
                model.row.stored == u8::from(model.row.ended == Some(EndReason::Completed))
            }),
            Property::eventually("the session settles", |_, model: &SessionModel| model.is_settled()),
            Property::sometimes("a credential is stored", |_, model: &SessionModel| model.row.stored == 1),
            Property::sometimes("a second machine is started", |_, model: &SessionModel| model.machines.len() == 2),
        ]
    }
}

const NARROW: Bounds = Bounds {
    restarts_max: 1,
    crashes: 1,
    stops: 0,
    restart_requests: 1,
    channel_losses: 1,
    database_faults: 1,
    machines_ignoring_stops: 0,
    forbidden_system_calls: 0,
};

fn check_every_order(bounds: Bounds) {
    let checker = Sessions(bounds).checker().threads(2).spawn_bfs().join();
    eprintln!("{bounds:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn every_order_of_events_with_a_crashing_server_keeps_the_guarantees() {
    check_every_order(Bounds { restart_requests: 0, channel_losses: 0, ..NARROW });
}

#[test]
fn every_order_of_events_with_restarts_and_faults_keeps_the_guarantees() {
    check_every_order(Bounds { crashes: 0, ..NARROW });
}

#[test]
fn every_order_of_events_with_a_server_stop_or_a_hung_machine_keeps_the_guarantees() {
    check_every_order(Bounds {
        crashes: 0,
        stops: 1,
        restart_requests: 0,
        channel_losses: 0,
        database_faults: 0,
        ..NARROW
    });
    check_every_order(Bounds {
        crashes: 0,
        restart_requests: 1,
        machines_ignoring_stops: 1,
        channel_losses: 0,
        database_faults: 0,
        ..NARROW
    });
}

#[test]
fn every_order_of_events_with_a_compromised_machine_keeps_the_guarantees() {
    let compromised = Bounds { channel_losses: 0, database_faults: 0, forbidden_system_calls: 1, ..NARROW };
    check_every_order(Bounds { restart_requests: 0, ..compromised });
    check_every_order(Bounds { crashes: 0, database_faults: 1, ..compromised });
}

/// Stronger than "the session settles", which an endless loop satisfies: from every state a settled one is reachable.
#[test]
fn from_every_state_a_settled_state_is_reachable() {
    let first = SessionModel::new(Bounds { restart_requests: 0, channel_losses: 0, ..NARROW });
    let mut numbers = HashMap::from([(first.clone(), 0_usize)]);
    let mut predecessors: Vec<Vec<usize>> = vec![Vec::new()];
    let mut settled = Vec::new();
    let mut queue = VecDeque::from([first]);
    while let Some(model) = queue.pop_front() {
        let number = numbers[&model];
        if model.is_settled() {
            settled.push(number);
        }
        for step in model.steps() {
            let mut next = model.clone();
            next.apply(&step);
            let next_number = numbers.len();
            let to = *numbers.entry(next.clone()).or_insert(next_number);
            if to == next_number {
                predecessors.push(Vec::new());
                queue.push_back(next);
            }
            predecessors[to].push(number);
        }
    }
    let mut reaches = vec![false; predecessors.len()];
    while let Some(number) = settled.pop() {
        if !std::mem::replace(&mut reaches[number], true) {
            settled.extend(&predecessors[number]);
        }
    }
    let unreachable = numbers.iter().find(|(_, number)| !reaches[**number]);
    assert!(unreachable.is_none(), "of {} states this one reaches no settled state: {:#?}", reaches.len(), unreachable);
}

/// Whether the step happens without a fault and without a caller.
fn is_progress(step: &Step) -> bool {
    !matches!(
        step,
        Step::Crash
            | Step::StopServer
            | Step::LosesChannel(_)
            | Step::IgnoresStops(_)
            | Step::DatabaseFails(_)
            | Step::ClaimFails
            | Step::RequestRestart
            | Step::Cancels
            | Step::Exits(_)
            | Step::MakesForbiddenSystemCall(_)
            | Step::ReceiveDeadline { .. }
            | Step::ReceiveCleanupTimeout
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_long_random_run_keeps_the_guarantees_and_then_settles(
        choices in proptest::collection::vec(any::<(u16, u8)>(), 100..2_000),
    ) {
        let bounds = Bounds {
            restarts_max: 4, crashes: 6, stops: 2, restart_requests: 4, channel_losses: 6, database_faults: 4, machines_ignoring_stops: 1,
            forbidden_system_calls: 1,
        };
        let mut model = SessionModel::new(bounds);
        let check = |model: &SessionModel| {
            prop_assert_eq!(model.violation, None);
            prop_assert!(model.running_machines() <= 1 && model.row.ends <= 1, "{:#?}", model);
            Ok(())
        };
        for (choice, fault_weight) in choices {
            if model.is_settled() {
                break;
            }
            let mut steps = model.steps();
            // Faults are rare, so that runs are long.
            let without_faults: Vec<_> = steps.iter().filter(|step| is_progress(step)).cloned().collect();
            if fault_weight > 20 && !without_faults.is_empty() {
                steps = without_faults;
            }
            let step = steps[usize::from(choice) % steps.len()].clone();
            model.apply(&step);
            check(&model)?;
        }
        // From now on there are no faults and every step gets its turn; a machine that ignores stop requests exits at last.
        for turn in 0..2_000_usize {
            if model.is_settled() {
                return Ok(());
            }
            let mut steps: Vec<_> = model.steps().into_iter().filter(is_progress).collect();
            if steps.is_empty() {
                steps = model.steps();
            }
            let step = steps[turn * 7 % steps.len()].clone();
            model.apply(&step);
            check(&model)?;
        }
        prop_assert!(false, "not settled: {:#?}", model);
    }
}
