//! The order in which waiting sessions get machines. Pure: no clock, no I/O.
//!
//! The next machine goes to the caller that uses the fewest machines; of several such callers, to the one whose last turn was the
//! longest ago. Within a caller the same rule chooses the user, and within a user the oldest session. So a caller that starts
//! hundreds of sessions delays the first session of another caller by at most one machine.

use anteroom_store::SessionRow;
use anteroom_wire::CallerId;
use std::{
    collections::{BTreeMap, HashMap, VecDeque, vec_deque},
    iter::Peekable,
};

/// For whom a session was started.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionOwner {
    /// The caller that owns the session.
    pub caller: CallerId,
    /// The caller's user; the sessions of a caller without a user share one turn.
    pub user_id: Option<String>,
}

impl SessionOwner {
    /// The owner of this session.
    pub fn of_row(row: &SessionRow) -> Self {
        Self { caller: row.owner.clone(), user_id: row.user_id.clone() }
    }
}

/// What callers and users wait for and use.
#[derive(Debug, Default)]
pub(super) struct FairTurns {
    callers: HashMap<CallerId, CallerTurns>,
    /// The number of the next turn; 0 is for those that had none.
    turns: u64,
}

#[derive(Debug, Default)]
struct CallerTurns {
    share: Share,
    users: HashMap<Option<String>, UserTurns>,
}

#[derive(Debug, Default)]
struct UserTurns {
    share: Share,
    /// Numbers of the waiting sessions, the oldest first.
    waiting: VecDeque<u64>,
}

/// What one caller or user has got.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    machines: u32,
    last_turn: u64,
}

/// The order of the waiting sessions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// The positions by the sessions' numbers; 1 is next.
    positions: HashMap<u64, u32>,
    /// How many sessions, the first of the order, may get a machine without exceeding their caller's share.
    permitted: u32,
}

impl Order {
    /// The position of a waiting session.
    pub(super) fn position(&self, number: u64) -> Option<u32> {
        self.positions.get(&number).copied()
    }

    /// How many sessions wait although their caller may use more machines.
    pub(super) fn permitted(&self) -> u32 {
        self.permitted
    }

    /// Whether the session may take one of so many free machines.
    pub(super) fn permits(&self, number: u64, free: u32) -> bool {
        self.position(number).is_some_and(|position| position <= free.min(self.permitted))
    }
}

impl FairTurns {
    /// The number of waiting sessions.
    pub(super) fn waiting_count(&self) -> usize {
        self.callers.values().map(CallerTurns::waiting_count).sum()
    }

    /// The number of waiting sessions of a caller.
    pub(super) fn waiting_of_caller(&self, caller: &CallerId) -> usize {
        self.callers.get(caller).map_or(0, CallerTurns::waiting_count)
    }

    /// The number of waiting sessions of a user.
    pub(super) fn waiting_of_user(&self, owner: &SessionOwner) -> usize {
        let user = self.callers.get(&owner.caller).and_then(|caller| caller.users.get(&owner.user_id));
        user.map_or(0, |user| user.waiting.len())
    }

    /// The number of machines that a caller uses.
    pub(super) fn machines_of_caller(&self, caller: &CallerId) -> u32 {
        self.callers.get(caller).map_or(0, |caller| caller.share.machines)
    }

    /// Adds a waiting session; its number is greater than those of all earlier sessions.
    pub(super) fn add_waiting(&mut self, owner: &SessionOwner, number: u64) {
        self.user(owner).waiting.push_back(number);
    }

    /// Removes a waiting session, if it waits.
    pub(super) fn remove_waiting(&mut self, owner: &SessionOwner, number: u64) {
        self.user(owner).waiting.retain(|other| *other != number);
        self.forget_unused(owner);
    }

    /// Counts a machine that the caller and its user use, as their turn.
    pub(super) fn add_machine(&mut self, owner: &SessionOwner) {
        self.turns += 1;
        let turn = self.turns;
        self.user(owner).share.take_turn(turn);
        self.callers.entry(owner.caller.clone()).or_default().share.take_turn(turn);
    }

    /// Ends the count of a machine.
    pub(super) fn remove_machine(&mut self, owner: &SessionOwner) {
        let Some(caller) = self.callers.get_mut(&owner.caller) else { return };
        caller.share.machines = caller.share.machines.saturating_sub(1);
        if let Some(user) = caller.users.get_mut(&owner.user_id) {
            user.share.machines = user.share.machines.saturating_sub(1);
        }
        self.forget_unused(owner);
    }

    fn user(&mut self, owner: &SessionOwner) -> &mut UserTurns {
        let caller = self.callers.entry(owner.caller.clone()).or_default();
        caller.users.entry(owner.user_id.clone()).or_default()
    }

    /// Forgets turns of users and callers that neither wait nor use a machine, so that memory is bounded by sessions.
    fn forget_unused(&mut self, owner: &SessionOwner) {
        if let Some(caller) = self.callers.get_mut(&owner.caller) {
            caller.users.retain(|_, user| !user.waiting.is_empty() || user.share.machines > 0);
            if caller.users.is_empty() {
                self.callers.remove(&owner.caller);
            }
        }
    }

    /// The order in which the waiting sessions get machines if no machine becomes free in between. Sessions of callers that use
    /// `machines_by_caller_max` machines by then are last.
    pub(super) fn order(&self, machines_by_caller_max: u32) -> Order {
        let (mut next, mut held_back) = (Schedule::new(), Schedule::new());
        for caller in self.callers.values().map(ScheduledCaller::new) {
            caller.insert_into(&mut next);
        }
        let (mut turn, mut order) = (self.turns, Order::default());
        while let Some((key, mut caller)) = next.pop_first() {
            if caller.share.machines >= machines_by_caller_max {
                held_back.insert(key, caller);
                continue;
            }
            turn += 1;
            order.push(caller.take_turn(turn));
            caller.insert_into(&mut next);
        }
        order.permitted = order.len();
        while let Some((_, mut caller)) = held_back.pop_first() {
            turn += 1;
            order.push(caller.take_turn(turn));
            caller.insert_into(&mut held_back);
        }
        order
    }
}

impl Order {
    fn len(&self) -> u32 {
        u32::try_from(self.positions.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.positions.insert(number, self.len().saturating_add(1));
        }
    }
}

impl CallerTurns {
    fn waiting_count(&self) -> usize {
        self.users.values().map(|user| user.waiting.len()).sum()
    }
}

impl Share {
    fn take_turn(&mut self, turn: u64) {
        self.machines = self.machines.saturating_add(1);
        self.last_turn = turn;
    }

    /// The key of a caller or user whose oldest session has this number; the smallest key is next.
    fn key(self, oldest: u64) -> TurnKey {
        (self.machines, self.last_turn, oldest)
    }
}

/// Machines in use, the last turn, the number of the oldest session. The number makes it unique.
type TurnKey = (u32, u64, u64);
type Schedule<'a> = BTreeMap<TurnKey, ScheduledCaller<'a>>;

/// A caller with waiting sessions, in an order that is being made.
struct ScheduledCaller<'a> {
    share: Share,
    users: BTreeMap<TurnKey, ScheduledUser<'a>>,
}

/// A user with waiting sessions, in an order that is being made.
struct ScheduledUser<'a> {
    share: Share,
    waiting: Peekable<vec_deque::Iter<'a, u64>>,
}

impl<'a> ScheduledCaller<'a> {
    fn new(caller: &'a CallerTurns) -> Self {
        let mut scheduled = Self { share: caller.share, users: BTreeMap::new() };
        for user in caller.users.values() {
            scheduled.insert(ScheduledUser { share: user.share, waiting: user.waiting.iter().peekable() });
        }
        scheduled
    }

    fn insert(&mut self, mut user: ScheduledUser<'a>) {
        if let Some(&&oldest) = user.waiting.peek() {
            self.users.insert(user.share.key(oldest), user);
        }
    }

    /// Adds this caller, unless none of its sessions waits any more.
    fn insert_into(self, schedule: &mut Schedule<'a>) {
        if let Some(&(_, _, oldest)) = self.users.keys().next() {
            schedule.insert(self.share.key(oldest), self);
        }
    }

    /// The number of the session whose turn it is.
    fn take_turn(&mut self, turn: u64) -> Option<u64> {
        let (_, mut user) = self.users.pop_first()?;
        let number = user.waiting.next().copied();
        user.share.take_turn(turn);
        self.share.take_turn(turn);
        self.insert(user);
        number
    }
}

#[cfg(test)]
mod tests;
