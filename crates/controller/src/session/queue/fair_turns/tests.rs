use super::*;
use proptest::prelude::*;

fn owner(caller: u8, user: Option<u8>) -> SessionOwner {
    SessionOwner { caller: CallerId::from_parts(1, [caller; 10]), user_id: user.map(|user| format!("user-{user}")) }
}

fn numbers(turns: &FairTurns, machines_by_caller_max: u32) -> Vec<u64> {
    let order = turns.order(machines_by_caller_max);
    let mut numbers: Vec<(u32, u64)> = order.positions.iter().map(|(number, position)| (*position, *number)).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().map(|(position, _)| *position).eq(1..=order.len()), "{numbers:?}");
    numbers.into_iter().map(|(_, number)| number).collect()
}

#[test]
fn another_callers_first_session_is_next_although_hundreds_wait() {
    let (many, one) = (owner(1, None), owner(2, None));
    let mut turns = FairTurns::default();
    turns.add_machine(&many);
    (0..200).for_each(|number| turns.add_waiting(&many, number));
    turns.add_waiting(&one, 200);
    assert_eq!(numbers(&turns, u32::MAX)[..3], [200, 0, 1]);
}

#[test]
fn with_one_machine_callers_take_turns() {
    let (many, one) = (owner(1, None), owner(2, None));
    let mut turns = FairTurns::default();
    (0..4).for_each(|number| turns.add_waiting(&many, number));
    (4..6).for_each(|number| turns.add_waiting(&one, number));
    let mut granted = Vec::new();
    while let Some(&number) = numbers(&turns, u32::MAX).first() {
        let owner = if number < 4 { &many } else { &one };
        turns.remove_waiting(owner, number);
        turns.add_machine(owner);
        turns.remove_machine(owner);
        granted.push(number);
    }
    assert_eq!(granted, [0, 4, 1, 5, 2, 3]);
}

#[test]
fn users_of_one_caller_take_turns() {
    let (busy, other) = (owner(1, Some(1)), owner(1, Some(2)));
    let mut turns = FairTurns::default();
    (0..3).for_each(|number| turns.add_waiting(&busy, number));
    turns.add_waiting(&other, 3);
    assert_eq!(numbers(&turns, u32::MAX), [0, 3, 1, 2]);
}

#[test]
fn sessions_of_a_caller_with_all_its_machines_are_last_and_not_permitted() {
    let (full, other) = (owner(1, None), owner(2, None));
    let mut turns = FairTurns::default();
    turns.add_machine(&full);
    turns.add_waiting(&full, 0);
    (1..4).for_each(|number| turns.add_waiting(&other, number));
    assert_eq!(numbers(&turns, 2), [1, 0, 2, 3], "one more machine for the first, two for the second");
    let order = turns.order(2);
    assert!(order.permits(2, 9) && !order.permits(3, 9), "{order:?}");
    assert!(!order.permits(2, 2), "only two machines are free");
}

/// What happens in the property test.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enqueue { caller: u8, user: Option<u8> },
    Leave { index: usize },
    Grant,
    Release { index: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..4, proptest::option::of(0_u8..3)).prop_map(|(caller, user)| Step::Enqueue { caller, user }),
        1 => any::<usize>().prop_map(|index| Step::Leave { index }),
        2 => Just(Step::Grant),
        1 => any::<usize>().prop_map(|index| Step::Release { index }),
    ]
}

fn machines_of(machines: &[SessionOwner], of: &SessionOwner) -> usize {
    machines.iter().filter(|owner| owner.caller == of.caller).count()
}

proptest! {
    /// Every waiting session has one position, the next machine goes to a caller that uses the fewest, within the caller to a user
    /// that uses the fewest, within the user to the oldest session; nothing is kept for owners that neither wait nor use a machine.
    #[test]
    fn the_next_machine_goes_to_a_caller_with_the_fewest(steps in prop::collection::vec(step(), 1..120)) {
        let mut turns = FairTurns::default();
        let mut waiting: Vec<(u64, SessionOwner)> = Vec::new();
        let mut machines: Vec<SessionOwner> = Vec::new();
        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Enqueue { caller, user } => {
                    let owner = owner(caller, user);
                    turns.add_waiting(&owner, number);
                    waiting.push((number, owner));
                }
                Step::Leave { index } if !waiting.is_empty() => {
                    let (number, owner) = waiting.remove(index % waiting.len());
                    turns.remove_waiting(&owner, number);
                }
                Step::Grant if !waiting.is_empty() => {
                    let next = numbers(&turns, u32::MAX)[0];
                    let at = waiting.iter().position(|(number, _)| *number == next).unwrap();
                    let (_, owner) = waiting.remove(at);
                    let by_user = |other: &SessionOwner| machines.iter().filter(|used| *used == other).count();
                    for (other_number, other) in &waiting {
                        prop_assert!(machines_of(&machines, &owner) <= machines_of(&machines, other));
                        if other.caller == owner.caller {
                            prop_assert!(by_user(&owner) <= by_user(other));
                        }
                        prop_assert!(*other != owner || next < *other_number);
                    }
                    turns.remove_waiting(&owner, next);
                    turns.add_machine(&owner);
                    machines.push(owner);
                }
                Step::Release { index } if !machines.is_empty() => {
                    turns.remove_machine(&machines.remove(index % machines.len()));
                }
                Step::Leave { .. } | Step::Grant | Step::Release { .. } => {}
            }
            prop_assert_eq!(turns.waiting_count(), waiting.len());
            prop_assert_eq!(numbers(&turns, u32::MAX).len(), waiting.len());
            prop_assert_eq!(numbers(&turns, 2).len(), waiting.len());
        }
        for (number, owner) in waiting {
            turns.remove_waiting(&owner, number);
        }
        machines.iter().for_each(|owner| turns.remove_machine(owner));
        prop_assert!(turns.callers.is_empty());
    }

    /// A caller with one session waits for at most as many other sessions as there are other callers, whatever those started.
    #[test]
    fn a_callers_first_session_waits_for_at_most_one_session_of_each_other_caller(
        others in prop::collection::vec((1_u8..6, proptest::option::of(0_u8..50)), 0..300),
        in_use in prop::collection::vec(1_u8..6, 0..20),
    ) {
        let mut turns = FairTurns::default();
        for caller in in_use {
            turns.add_machine(&owner(caller, None));
        }
        for (number, (caller, user)) in (0_u64..).zip(&others) {
            turns.add_waiting(&owner(*caller, *user), number);
        }
        turns.add_waiting(&owner(0, None), u64::MAX);
        let position = turns.order(u32::MAX).position(u64::MAX).unwrap();
        prop_assert!(position <= 6, "position {position}");
    }
}
