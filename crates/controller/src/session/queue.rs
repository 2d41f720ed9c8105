//! The queue for machines: fair turns by caller and by user, with a visible position. While the host lacks memory or disk
//! ([`MachineQueue::set_admission_check`]) no session is admitted.
//!
//! | limit | at the limit |
//! |---|---|
//! | [`QueueLimits::waiting_max`] | a new session is rejected, unless its caller has fewer than [`RESERVED_BY_CALLER`] waiting |
//! | [`QueueLimits::waiting_by_caller_max`] | a new session of the caller is rejected |
//! | [`QueueLimits::waiting_by_user_max`] | a new session of the user is rejected |
//! | [`QueueLimits::machines_by_caller_max`] | sessions of the caller wait, those for external machines are rejected |

mod fair_turns;
mod limits;

pub use fair_turns::SessionOwner;
pub use limits::{QueueLimits, QueueRejection};

use super::start_times::median_s;
use crate::admission::shortage::ResourceShortage;
use anteroom_cluster::Capacity;
use fair_turns::{FairTurns, Order};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How often waiting sessions repeat the admission check: nothing signals that memory or disk became free.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The uses of permits that are remembered, and the fewest from which a wait is estimated.
const USES_MAX: usize = 21;
const USES_MIN: usize = 3;

/// Waiting sessions of each caller for which a full queue has room: few, and enough that a caller's users are served while other
/// callers fill the queue.
const RESERVED_BY_CALLER: usize = 4;

/// Checks whether the host has capacity for one more machine than there are permits in use; the error is the reason why not.
type AdmissionCheck = Box<dyn Fn(u32) -> Result<(), ResourceShortage> + Send + Sync>;

/// Permits for machines, and the sessions that wait for them.
#[derive(Debug, Clone)]
pub struct MachineQueue(Arc<Inner>);

struct Inner {
    state: Mutex<QueueState>,
    admission_check: OnceLock<AdmissionCheck>,
    /// Held from the admission check until the permit is taken, so that the next check counts it.
    admitting: Mutex<()>,
    changed: watch::Sender<u64>,
    limits: QueueLimits,
}

#[derive(Debug)]
struct QueueState {
    permits: u32,
    /// Permits in use; may exceed the number of permits after adoptions.
    in_use: u32,
    turns: FairTurns,
    /// Since when each session waits, by its number.
    waiting_since: BTreeMap<u64, Instant>,
    /// The number of the next session.
    next: u64,
    /// The order of the waiting sessions; `None`: it changed and no session has asked for it since.
    order: Option<Order>,
    /// Why the last admission check failed.
    blocked_reason: Option<ResourceShortage>,
    /// How long the last permits were in use, the newest last.
    uses: VecDeque<Duration>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("line", &self.state).finish_non_exhaustive()
    }
}

/// Permission to run one machine; dropping it gives the permit to the next session in the queue.
#[derive(Debug)]
pub struct MachinePermit {
    queue: MachineQueue,
    owner: SessionOwner,
    since: Instant,
}

/// A position in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub struct QueueTicket {
    queue: MachineQueue,
    owner: SessionOwner,
    number: u64,
}

/// The use of an external machine, which counts as a machine of its caller until this is dropped.
#[derive(Debug)]
pub struct ExternalMachineUse {
    queue: MachineQueue,
    owner: SessionOwner,
}

impl MachineQueue {
    /// A queue with this number of permits.
    pub fn new(permits: u32, limits: QueueLimits) -> Self {
        let state = QueueState {
            permits,
            in_use: 0,
            turns: FairTurns::default(),
            waiting_since: BTreeMap::new(),
            next: 0,
            order: None,
            blocked_reason: None,
            uses: VecDeque::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            admission_check: OnceLock::new(),
            admitting: Mutex::new(()),
            changed: watch::channel(0).0,
            limits,
        }))
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.state.lock()
    }

    fn notify(&self) {
        self.0.changed.send_modify(|change| *change += 1);
    }

    /// Changes of the queue: sessions that wait, permits that are free.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Sets the check that must pass before a session is admitted; it receives the number of permits in use. Only the first call
    /// has an effect.
    pub fn set_admission_check(&self, check: impl Fn(u32) -> Result<(), ResourceShortage> + Send + Sync + 'static) {
        let _ = self.0.admission_check.set(Box::new(check));
    }

    /// Why waiting sessions are not admitted although permits are free; `None`: none waits for the admission check.
    pub fn admission_shortage(&self) -> Option<ResourceShortage> {
        let state = self.state();
        state.blocked_reason.clone().filter(|_| state.turns.waiting_count() > 0)
    }

    /// Runs the admission check and stores its error.
    fn passes_admission_check(&self) -> bool {
        let in_use = self.permits_in_use();
        let blocked_reason = self.0.admission_check.get().and_then(|check| check(in_use).err());
        let passes = blocked_reason.is_none();
        self.state().blocked_reason = blocked_reason;
        passes
    }

    /// Adds a new session to the queue.
    ///
    /// # Errors
    /// No permit is free for it, and the queue or the share of its caller or user is full.
    pub fn enqueue(&self, owner: &SessionOwner) -> Result<QueueTicket, QueueRejection> {
        let mut state = self.state();
        state.check_limits(&self.0.limits, owner)?;
        Ok(self.add(&mut state, owner))
    }

    /// Adds a session that was accepted before: its machine ended, or the server restarted. There are no more of these than accepted
    /// sessions, so they are never rejected.
    pub fn enqueue_again(&self, owner: &SessionOwner) -> QueueTicket {
        self.add(&mut self.state(), owner)
    }

    fn add(&self, state: &mut QueueState, owner: &SessionOwner) -> QueueTicket {
        let number = state.next;
        state.next += 1;
        state.waiting_since.insert(number, Instant::now());
        state.change_turns(|turns| turns.add_waiting(owner, number));
        self.notify();
        QueueTicket { queue: self.clone(), owner: owner.clone(), number }
    }

    /// A permit for an adopted machine, outside the queue: the machine runs already.
    pub fn acquire_for_adopted(&self, owner: &SessionOwner) -> MachinePermit {
        let mut state = self.state();
        state.in_use += 1;
        state.change_turns(|turns| turns.add_machine(owner));
        MachinePermit { queue: self.clone(), owner: owner.clone(), since: Instant::now() }
    }

    /// Counts an external machine for a new session.
    ///
    /// # Errors
    /// The caller uses all the machines that it may use.
    pub fn use_external_machine(&self, owner: &SessionOwner) -> Result<ExternalMachineUse, QueueRejection> {
        let mut state = self.state();
        let (machines, machines_max) =
            (state.turns.machines_of_caller(&owner.caller), self.0.limits.machines_by_caller_max);
        if machines >= machines_max {
            return Err(QueueRejection::CallerMachines { machines, machines_max });
        }
        Ok(self.count_external_machine(&mut state, owner))
    }

    /// Counts an external machine that a session uses already.
    pub fn resume_external_machine(&self, owner: &SessionOwner) -> ExternalMachineUse {
        self.count_external_machine(&mut self.state(), owner)
    }

    fn count_external_machine(&self, state: &mut QueueState, owner: &SessionOwner) -> ExternalMachineUse {
        state.change_turns(|turns| turns.add_machine(owner));
        ExternalMachineUse { queue: self.clone(), owner: owner.clone() }
    }

    /// How long the session at this position usually waits, seconds: from the median of the last uses of permits. `None`: there were
    /// too few.
    pub fn usual_wait_s(&self, position: u32) -> Option<u64> {
        let state = self.state();
        let use_s = median_s(state.uses.iter().copied(), USES_MIN)?;
        Some((use_s * u64::from(position)).div_ceil(u64::from(state.permits.max(1))))
    }

    /// The number of permits in use: each holder has a machine or is about to request one.
    pub fn permits_in_use(&self) -> u32 {
        self.state().in_use
    }

    /// The number of free permits.
    pub fn free_permits(&self) -> u32 {
        self.state().free()
    }

    /// The number of waiting sessions that only wait for a free permit: their callers may use more machines.
    pub fn permitted_count(&self) -> u32 {
        self.state().order(&self.0.limits).permitted()
    }

    /// How long the session that waits longest has waited; `None`: none waits.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.state().waiting_since.values().next().map(Instant::elapsed)
    }

    /// How many machines it permits, and how many sessions use or want one.
    pub fn capacity(&self) -> Capacity {
        let state = self.state();
        let waiting = u32::try_from(state.turns.waiting_count()).unwrap_or(u32::MAX);
        Capacity { machines_max: state.permits, machines: state.in_use, waiting }
    }

    /// The number of waiting sessions.
    pub fn waiting_count(&self) -> usize {
        self.state().turns.waiting_count()
    }
}

impl QueueState {
    /// Checks the limits for another session of this owner. Sessions for which permits are free do not wait.
    fn check_limits(&self, limits: &QueueLimits, owner: &SessionOwner) -> Result<(), QueueRejection> {
        let left = limits.machines_by_caller_max.saturating_sub(self.turns.machines_of_caller(&owner.caller));
        let about_to_run = self.free().min(left) as usize;
        let of_caller = self.turns.waiting_of_caller(&owner.caller);
        if of_caller >= limits.waiting_by_caller_max as usize + about_to_run {
            let waiting_max = limits.waiting_by_caller_max;
            return Err(QueueRejection::CallerWaiting { waiting: of_caller, waiting_max });
        }
        let of_user = self.turns.waiting_of_user(owner);
        if owner.user_id.is_some() && of_user >= limits.waiting_by_user_max as usize + about_to_run {
            let waiting_max = limits.waiting_by_user_max;
            return Err(QueueRejection::UserWaiting { waiting: of_user, waiting_max });
        }
        let (waiting, waiting_max) = (self.turns.waiting_count(), limits.waiting_max as usize);
        let is_full = waiting >= waiting_max + self.free() as usize;
        if is_full && of_caller >= RESERVED_BY_CALLER.min(waiting_max) {
            return Err(QueueRejection::Full { waiting });
        }
        Ok(())
    }

    fn free(&self) -> u32 {
        self.permits.saturating_sub(self.in_use)
    }

    fn change_turns(&mut self, change: impl FnOnce(&mut FairTurns)) {
        change(&mut self.turns);
        self.order = None;
    }

    fn order(&mut self, limits: &QueueLimits) -> &Order {
        self.order.get_or_insert_with(|| self.turns.order(limits.machines_by_caller_max))
    }
}

impl QueueTicket {
    /// Its queue.
    pub fn queue(&self) -> &MachineQueue {
        &self.queue
    }

    /// The current position; 1 is next. It grows when sessions of callers with fewer machines arrive.
    pub fn position(&self) -> u32 {
        self.queue.state().order(&self.queue.0.limits).position(self.number).unwrap_or(1)
    }

    /// Takes a permit if it is this session's turn and the admission check passes.
    pub fn try_acquire(&self) -> Option<MachinePermit> {
        if !self.has_turn(&mut self.queue.state()) {
            return None;
        }
        let _admitting = self.queue.0.admitting.lock();
        if !self.queue.passes_admission_check() {
            return None;
        }
        let mut state = self.queue.state();
        if !self.has_turn(&mut state) {
            return None;
        }
        state.in_use += 1;
        state.waiting_since.remove(&self.number);
        state.change_turns(|turns| {
            turns.remove_waiting(&self.owner, self.number);
            turns.add_machine(&self.owner);
        });
        drop(state);
        self.queue.notify();
        Some(MachinePermit { queue: self.queue.clone(), owner: self.owner.clone(), since: Instant::now() })
    }

    fn has_turn(&self, state: &mut QueueState) -> bool {
        let free = state.free();
        state.order(&self.queue.0.limits).permits(self.number, free)
    }

    /// Waits for a permit; calls `on_position` with each new position.
    pub async fn acquire(self, mut on_position: impl FnMut(u32)) -> MachinePermit {
        let mut changes = self.queue.0.changed.subscribe();
        let mut reported = None;
        loop {
            changes.borrow_and_update();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            let position = self.position();
            if reported.replace(position) != Some(position) {
                on_position(position);
            }
            tokio::select! {
                // The sender lives as long as this ticket.
                _ = changes.changed() => {}
                () = tokio::time::sleep(RECHECK_INTERVAL), if self.queue.0.admission_check.get().is_some() => {}
            }
        }
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        let number = self.number;
        let mut state = self.queue.state();
        state.waiting_since.remove(&number);
        state.change_turns(|turns| turns.remove_waiting(&self.owner, number));
        drop(state);
        self.queue.notify();
    }
}

impl Drop for MachinePermit {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.in_use = state.in_use.saturating_sub(1);
        state.change_turns(|turns| turns.remove_machine(&self.owner));
        if state.uses.len() == USES_MAX {
            state.uses.pop_front();
        }
        state.uses.push_back(self.since.elapsed());
        drop(state);
        self.queue.notify();
    }
}

impl Drop for ExternalMachineUse {
    fn drop(&mut self) {
        self.queue.state().change_turns(|turns| turns.remove_machine(&self.owner));
        self.queue.notify();
    }
}

#[cfg(test)]
mod tests;
