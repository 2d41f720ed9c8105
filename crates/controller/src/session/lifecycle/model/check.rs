//! The check itself: every order of events within bounds, and long runs by chance beyond them.

use super::{Bounds, Step, World};
use anteroom_wire::Problem;
use proptest::prelude::*;
use stateright::{Checker, Model, Property};
use std::collections::{HashMap, VecDeque};

/// All worlds that come of a session within bounds.
#[derive(Clone)]
struct Sessions(Bounds);

impl Model for Sessions {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        actions.extend(world.steps());
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(&step);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no promise is broken", |_, world: &World| world.broken.is_none()),
            Property::always("at most one machine lives", |_, world: &World| world.living() <= 1),
            Property::always("a session ends once", |_, world: &World| world.row.ends <= 1),
            Property::always("completed and stored are the same", |_, world: &World| {
                world.row.stored == u8::from(world.row.ended == Some(Problem::Completed))
            }),
            Property::eventually("it settles", |_, world: &World| world.is_settled()),
            Property::sometimes("a credential is stored", |_, world: &World| world.row.stored == 1),
            Property::sometimes("a second machine is had", |_, world: &World| world.machines.len() == 2),
        ]
    }
}

const NARROW: Bounds =
    Bounds { restarts_max: 1, crashes: 1, stops: 0, wishes: 1, channel_losses: 1, database_faults: 1, hangs: 0 };

fn hold(bounds: Bounds) {
    let checker = Sessions(bounds).checker().threads(2).spawn_bfs().join();
    eprintln!("{bounds:?}: {} worlds", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn every_order_of_events_around_a_server_that_crashes_keeps_the_promises() {
    hold(Bounds { wishes: 0, channel_losses: 0, ..NARROW });
}

#[test]
fn every_order_of_events_in_a_life_with_wishes_and_faults_keeps_the_promises() {
    hold(Bounds { crashes: 0, ..NARROW });
}

#[test]
fn every_order_of_events_around_a_server_that_stops_or_a_machine_that_hangs_keeps_the_promises() {
    hold(Bounds { crashes: 0, stops: 1, wishes: 0, channel_losses: 0, database_faults: 0, ..NARROW });
    hold(Bounds { crashes: 0, wishes: 1, hangs: 1, channel_losses: 0, database_faults: 0, ..NARROW });
}

/// Stronger than "it settles": a run that goes round for ever is not a way out. From every world there is one.
#[test]
fn from_every_world_there_is_a_way_to_the_end() {
    let first = World::new(Bounds { wishes: 0, channel_losses: 0, ..NARROW });
    let mut numbers = HashMap::from([(first.clone(), 0_usize)]);
    let mut came_from: Vec<Vec<usize>> = vec![Vec::new()];
    let mut settled = Vec::new();
    let mut todo = VecDeque::from([first]);
    while let Some(world) = todo.pop_front() {
        let number = numbers[&world];
        if world.is_settled() {
            settled.push(number);
        }
        for step in world.steps() {
            let mut next = world.clone();
            next.take(&step);
            let fresh = numbers.len();
            let to = *numbers.entry(next.clone()).or_insert(fresh);
            if to == fresh {
                came_from.push(Vec::new());
                todo.push_back(next);
            }
            came_from[to].push(number);
        }
    }
    let mut reaches = vec![false; came_from.len()];
    while let Some(number) = settled.pop() {
        if !std::mem::replace(&mut reaches[number], true) {
            settled.extend(&came_from[number]);
        }
    }
    let stuck = numbers.iter().find(|(_, number)| !reaches[**number]);
    assert!(stuck.is_none(), "of {} worlds this one has no way to the end: {:#?}", reaches.len(), stuck);
}

/// What goes forward by itself, without anybody's fault or wish.
fn is_progress(step: &Step) -> bool {
    !matches!(
        step,
        Step::Crash
            | Step::StopServer
            | Step::LosesChannel(_)
            | Step::Hangs(_)
            | Step::DatabaseFails(_)
            | Step::ClaimFails
            | Step::Wishes
            | Step::Cancels
            | Step::Dies(_)
            | Step::HearOverdue { .. }
            | Step::HearGoneOverdue
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_long_run_by_chance_keeps_the_promises_and_then_settles(
        choices in proptest::collection::vec(any::<(u16, u8)>(), 100..2_000),
    ) {
        let bounds = Bounds {
            restarts_max: 4, crashes: 6, stops: 2, wishes: 4, channel_losses: 6, database_faults: 4, hangs: 1,
        };
        let mut world = World::new(bounds);
        let check = |world: &World| {
            prop_assert_eq!(world.broken, None);
            prop_assert!(world.living() <= 1 && world.row.ends <= 1, "{:#?}", world);
            Ok(())
        };
        for (choice, luck) in choices {
            if world.is_settled() {
                break;
            }
            let mut steps = world.steps();
            // Faults come seldom, or no run would be long.
            let lucky: Vec<_> = steps.iter().filter(|step| is_progress(step)).cloned().collect();
            if luck > 20 && !lucky.is_empty() {
                steps = lucky;
            }
            let step = steps[usize::from(choice) % steps.len()].clone();
            world.take(&step);
            check(&world)?;
        }
        // From now on nothing goes wrong and everybody's turn comes; what never obeys dies at last.
        for turn in 0..2_000_usize {
            if world.is_settled() {
                return Ok(());
            }
            let mut steps: Vec<_> = world.steps().into_iter().filter(is_progress).collect();
            if steps.is_empty() {
                steps = world.steps();
            }
            let step = steps[turn * 7 % steps.len()].clone();
            world.take(&step);
            check(&world)?;
        }
        prop_assert!(false, "not settled: {:#?}", world);
    }
}
