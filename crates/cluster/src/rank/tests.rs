use super::*;
use proptest::prelude::*;

/// A waiting session: its class, its rank, the number of its arrival, and its owner.
type Waiting = (FairClass, u64, usize, u8);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    arrivals: usize,
}

impl Queue {
    fn add(&mut self, owner: u8, class: FairClass) {
        let of_class = || self.waiting.iter().filter(|waiting| waiting.0 == class);
        let least = of_class().map(|waiting| waiting.1).min();
        let own = of_class().filter(|waiting| waiting.3 == owner).map(|waiting| waiting.1).max();
        self.waiting.push((class, fair_rank(least, own), self.arrivals, owner));
        self.arrivals += 1;
        self.waiting.sort();
    }

    fn owners(&self) -> Vec<u8> {
        self.waiting.iter().map(|waiting| waiting.3).collect()
    }
}

#[test]
fn a_thousand_waiting_sessions_of_one_owner_delay_another_by_one_place() {
    let mut queue = Queue::default();
    (0..1_000).for_each(|_| queue.add(1, FairClass::Person));
    queue.add(2, FairClass::Person);
    assert_eq!(queue.owners().iter().position(|owner| *owner == 2), Some(1));
    queue.add(2, FairClass::Person);
    assert_eq!(queue.owners()[..4], [1, 2, 1, 2]);
}

#[test]
fn people_are_before_commands_and_commands_before_checks() {
    let mut queue = Queue::default();
    queue.add(1, FairClass::HealthCheck);
    queue.add(1, FairClass::Command);
    queue.add(1, FairClass::Person);
    let numbers: Vec<_> = queue.waiting.iter().map(|waiting| waiting.0.number()).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

proptest! {
    /// While sessions arrive and are taken from the front, a new session is behind at most one more of each other owner than of its own
    /// owner, which may have had its turn at the present rank already.
    #[test]
    fn a_session_is_behind_at_most_one_more_of_each_other_owner_than_of_its_own(
        steps in proptest::collection::vec(proptest::option::weighted(0.7, 0_u8..5), 1..300),
    ) {
        let mut queue = Queue::default();
        for step in steps {
            let Some(owner) = step else {
                if !queue.waiting.is_empty() {
                    queue.waiting.remove(0);
                }
                continue;
            };
            queue.add(owner, FairClass::Person);
            let newest = queue.waiting.iter().position(|waiting| waiting.2 == queue.arrivals - 1).expect("it waits");
            let before = &queue.owners()[..newest];
            let count = |of: u8| before.iter().filter(|other| **other == of).count();
            let least_own = queue.waiting.iter().find(|waiting| waiting.3 == owner).map(|waiting| waiting.1);
            let had_its_turn = usize::from(least_own > Some(queue.waiting[0].1));
            for other in (0..5).filter(|other| *other != owner) {
                prop_assert!(count(other) <= count(owner) + had_its_turn + 1, "{} before {}: {:?}", other, owner, queue.waiting);
            }
        }
    }
}
