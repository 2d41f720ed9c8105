//! The model check: every order of events, as long as the rules hold and with each rule broken.

use super::{Bounds, Mutation, Setting, Step, World, database::Owner};
use crate::Liveness;
use stateright::{Checker, Model, Property};

const ONE_OWNER: &str = "the host that acts for a session is its owner";

impl Model for Setting {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        world.steps(self, actions);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.apply(step, self);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let one_owner = Property::always(ONE_OWNER, |_, world: &World| {
            !world.host_acts() || world.database.owner == Owner::Host(world.host.incarnation)
        });
        if self.mutation.is_some() {
            return vec![one_owner];
        }
        let mut properties = vec![
            one_owner,
            Property::always("a credential is stored once", |_, world: &World| world.database.stored <= 1),
            Property::sometimes("the host is fenced and another takes the session", |_, world: &World| {
                world.database.fenced == 1 && matches!(world.database.owner, Owner::Observer(_))
            }),
            Property::sometimes("the fenced host learns it", |_, world: &World| world.host.incarnation == 2),
        ];
        if self.bounds.deliveries > 0 {
            properties.push(Property::sometimes("the host's delivery is stored", |_, world: &World| {
                world.database.stored == 1 && world.database.owner == Owner::Host(1)
            }));
        }
        properties
    }
}

/// Messages are late or lost, and a host that fences is slow; nothing else goes wrong.
const NO_FAULTS: Bounds = Bounds { flights: 1, pauses: 0, suspends: 0, crashes: 0, deliveries: 0, incarnations: 1 };

fn holds(setting: Setting) {
    let checker = setting.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{:?} {} {:?}: {} states",
        setting.liveness,
        setting.observers,
        setting.bounds,
        checker.unique_state_count()
    );
    checker.assert_properties();
}

fn is_caught(mutation: Mutation, liveness: Liveness, bounds: Bounds) {
    let setting = Setting { liveness, observers: 1, mutation: Some(mutation), bounds };
    let checker = setting.checker().threads(2).spawn_bfs().join();
    let found = checker.discovery(ONE_OWNER);
    eprintln!("{mutation:?}, {liveness:?}: {} states", checker.unique_state_count());
    assert!(found.is_some(), "{mutation:?} was not caught with {liveness:?}");
}

const FAULTS: [Bounds; 4] = [
    Bounds { deliveries: 1, ..NO_FAULTS },
    Bounds { pauses: 1, ..NO_FAULTS },
    Bounds { suspends: 1, ..NO_FAULTS },
    Bounds { crashes: 1, ..NO_FAULTS },
];

const DATABASE: Setting = Setting { liveness: Liveness::Database, observers: 1, mutation: None, bounds: NO_FAULTS };
const ETCD: Setting = Setting { liveness: Liveness::Etcd, ..DATABASE };

#[test]
fn every_order_of_events_keeps_one_owner_with_heartbeats_in_the_database() {
    FAULTS.into_iter().for_each(|bounds| holds(Setting { bounds, ..DATABASE }));
    holds(Setting { bounds: Bounds { flights: 2, ..NO_FAULTS }, ..DATABASE });
}

#[test]
fn every_order_of_events_keeps_one_owner_with_heartbeats_in_etcd_and_the_database() {
    FAULTS.into_iter().for_each(|bounds| holds(Setting { bounds, ..ETCD }));
}

/// Several faults in one run: minutes.
#[test]
fn full_every_order_of_events_with_several_faults_keeps_one_owner() {
    let several = Bounds { pauses: 1, suspends: 1, crashes: 1, deliveries: 1, ..NO_FAULTS };
    holds(Setting { bounds: several, ..DATABASE });
    holds(Setting { bounds: Bounds { pauses: 1, crashes: 1, deliveries: 1, ..NO_FAULTS }, ..ETCD });
    holds(Setting { bounds: Bounds { flights: 2, ..NO_FAULTS }, ..ETCD });
}

/// Two hosts observe the same one and race to fence it: minutes.
#[test]
fn full_every_order_of_events_with_two_observers_keeps_one_owner() {
    holds(Setting { observers: 2, ..DATABASE });
    holds(Setting { observers: 2, ..ETCD });
}

#[test]
fn each_broken_rule_is_caught_with_heartbeats_in_the_database() {
    let one = Liveness::Database;
    is_caught(Mutation::CountsFromTheAnswer, one, NO_FAULTS);
    is_caught(Mutation::NoKeeperDeadline, one, Bounds { pauses: 1, ..NO_FAULTS });
    is_caught(Mutation::BelievesExpiry, one, NO_FAULTS);
    is_caught(Mutation::ClockStopsInSuspend, one, Bounds { suspends: 1, ..NO_FAULTS });
    is_caught(Mutation::TakesBeforeTheFence, one, NO_FAULTS);
    is_caught(Mutation::NoSecondRead, one, NO_FAULTS);
}

#[test]
fn each_broken_rule_is_caught_with_heartbeats_in_etcd_and_the_database() {
    let two = Liveness::Etcd;
    is_caught(Mutation::ReadsEtcdFirst, two, NO_FAULTS);
    is_caught(Mutation::LooksAtEtcdOnly, two, NO_FAULTS);
    is_caught(Mutation::NoSecondRead, two, NO_FAULTS);
    is_caught(Mutation::LateAnswerRevives, two, NO_FAULTS);
    is_caught(Mutation::ComparesNoNumber, two, NO_FAULTS);
}
