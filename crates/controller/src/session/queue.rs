//! The queue for machines: first in, first out, with a visible position. While the host lacks memory or disk
//! ([`MachineQueue::set_admission_check`]) no session is admitted.

use crate::admission::shortage::ResourceShortage;
use anteroom_wire::SessionId;
use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;

/// How often waiting sessions repeat the admission check: nothing signals that memory or disk became free.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

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
    waiting_max: usize,
}

#[derive(Debug)]
struct QueueState {
    free: u32,
    /// Permits in use; may exceed the configured number after adoptions.
    in_use: u32,
    waiting: Vec<(u64, SessionId)>,
    next: u64,
    /// Why the last admission check failed.
    blocked_reason: Option<ResourceShortage>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("line", &self.state).finish_non_exhaustive()
    }
}

/// Permission to run one machine; dropping it gives the permit to the next session in the queue.
#[derive(Debug)]
pub struct MachinePermit(MachineQueue);

/// A position in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub struct QueueTicket {
    queue: MachineQueue,
    number: u64,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full ({waiting} sessions waiting)")]
pub struct QueueFull {
    /// The number of waiting sessions.
    pub waiting: usize,
}

impl MachineQueue {
    /// A queue with `permits` permits in which at most `waiting_max` sessions wait.
    pub fn new(permits: u32, waiting_max: u32) -> Self {
        let state = QueueState { free: permits, in_use: 0, waiting: Vec::new(), next: 0, blocked_reason: None };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            admission_check: OnceLock::new(),
            admitting: Mutex::new(()),
            changed: watch::channel(0).0,
            waiting_max: waiting_max as usize,
        }))
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.state.lock()
    }

    fn notify(&self) {
        self.0.changed.send_modify(|change| *change += 1);
    }

    /// Sets the check that must pass before a session is admitted; it receives the number of permits in use. Only the first call
    /// has an effect.
    pub fn set_admission_check(&self, check: impl Fn(u32) -> Result<(), ResourceShortage> + Send + Sync + 'static) {
        let _ = self.0.admission_check.set(Box::new(check));
    }

    /// Why waiting sessions are not admitted although permits are free; `None`: none waits for the admission check.
    pub fn admission_shortage(&self) -> Option<ResourceShortage> {
        let state = self.state();
        state.blocked_reason.clone().filter(|_| !state.waiting.is_empty())
    }

    /// Runs the admission check and stores its error.
    fn passes_admission_check(&self) -> bool {
        let in_use = self.permits_in_use();
        let blocked_reason = self.0.admission_check.get().and_then(|check| check(in_use).err());
        let passes = blocked_reason.is_none();
        self.state().blocked_reason = blocked_reason;
        passes
    }

    /// Adds a session to the queue.
    ///
    /// # Errors
    /// The queue is full and no permit is free.
    pub fn enqueue(&self, session: SessionId) -> Result<QueueTicket, QueueFull> {
        let mut state = self.state();
        let ahead = state.waiting.len();
        if ahead >= self.0.waiting_max + state.free as usize {
            return Err(QueueFull { waiting: ahead });
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push((number, session));
        Ok(QueueTicket { queue: self.clone(), number })
    }

    /// A permit for an adopted machine, outside the queue: the machine runs already.
    pub fn acquire_for_adopted(&self) -> MachinePermit {
        let mut state = self.state();
        state.free = state.free.saturating_sub(1);
        state.in_use += 1;
        MachinePermit(self.clone())
    }

    /// The number of permits in use: each holder has a machine or is about to request one.
    pub fn permits_in_use(&self) -> u32 {
        self.state().in_use
    }

    /// The number of free permits.
    pub fn free_permits(&self) -> u32 {
        self.state().free
    }

    /// The number of waiting sessions.
    pub fn waiting_count(&self) -> usize {
        self.state().waiting.len()
    }
}

impl QueueTicket {
    /// The current position; 1 is next.
    pub fn position(&self) -> u32 {
        let state = self.queue.state();
        let ahead = state.waiting.iter().position(|(number, _)| *number == self.number).unwrap_or(0);
        u32::try_from(ahead + 1).unwrap_or(u32::MAX)
    }

    /// Takes a permit if this position is near enough to the front and the admission check passes.
    pub fn try_acquire(&self) -> Option<MachinePermit> {
        if !self.is_next(&self.queue.state()) {
            return None;
        }
        let _admitting = self.queue.0.admitting.lock();
        if !self.queue.passes_admission_check() {
            return None;
        }
        let mut state = self.queue.state();
        let position = state.waiting.iter().position(|(number, _)| *number == self.number)?;
        if position >= state.free as usize {
            return None;
        }
        state.free -= 1;
        state.in_use += 1;
        state.waiting.remove(position);
        drop(state);
        self.queue.notify();
        Some(MachinePermit(self.queue.clone()))
    }

    fn is_next(&self, state: &QueueState) -> bool {
        let position = state.waiting.iter().position(|(number, _)| *number == self.number);
        position.is_some_and(|position| position < state.free as usize)
    }

    /// Waits for a permit; calls `on_position` with each new position.
    pub async fn acquire(self, mut on_position: impl FnMut(u32)) -> MachinePermit {
        let mut changes = self.queue.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            on_position(self.position());
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
        self.queue.state().waiting.retain(|(number, _)| *number != self.number);
        self.queue.notify();
    }
}

impl Drop for MachinePermit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.free += 1;
        state.in_use = state.in_use.saturating_sub(1);
        drop(state);
        self.0.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK_FULL: ResourceShortage =
        ResourceShortage::Disk { name: "state", path: std::path::PathBuf::new(), free_mib: 0, min_mib: 1 };

    fn session(number: u8) -> SessionId {
        SessionId::from_parts(1, [number; 10])
    }

    #[tokio::test]
    async fn the_first_session_in_the_queue_gets_the_next_free_permit() {
        let queue = MachineQueue::new(1, 5);
        let permit = queue.enqueue(session(1)).unwrap().acquire(|_| ()).await;
        let second = queue.enqueue(session(2)).unwrap();
        let third = queue.enqueue(session(3)).unwrap();
        assert_eq!((second.position(), third.position()), (1, 2));
        assert!(second.try_acquire().is_none() && third.try_acquire().is_none());
        drop(permit);
        assert!(third.try_acquire().is_none(), "the second comes first");
        assert!(second.try_acquire().is_some());
    }

    #[tokio::test]
    async fn leaving_the_queue_moves_the_others_up() {
        let queue = MachineQueue::new(1, 5);
        let _permit = queue.enqueue(session(1)).unwrap().acquire(|_| ()).await;
        let second = queue.enqueue(session(2)).unwrap();
        let third = queue.enqueue(session(3)).unwrap();
        drop(second);
        assert_eq!(third.position(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_session_is_admitted_while_the_admission_check_fails_and_the_reason_is_reported() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let (queue, has_capacity) = (MachineQueue::new(5, 5), Arc::new(AtomicBool::new(false)));
        let checked = Arc::clone(&has_capacity);
        queue.set_admission_check(move |_| if checked.load(SeqCst) { Ok(()) } else { Err(DISK_FULL) });
        assert_eq!(queue.admission_shortage(), None, "no session waits");
        let first = queue.enqueue(session(1)).unwrap();
        assert!(first.try_acquire().is_none());
        assert_eq!(queue.admission_shortage(), Some(DISK_FULL));
        let waiting = tokio::spawn(first.acquire(|_| ()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!waiting.is_finished());
        has_capacity.store(true, SeqCst);
        waiting.await.unwrap();
        assert_eq!(queue.admission_shortage(), None);
    }

    #[test]
    fn concurrent_requests_are_admitted_only_within_the_capacity_of_the_host() {
        let queue = MachineQueue::new(8, 8);
        queue.set_admission_check(move |in_use| {
            // Long enough that all other threads ask in between.
            for _ in 0..1_000 {
                std::thread::yield_now();
            }
            if in_use < 3 { Ok(()) } else { Err(DISK_FULL) }
        });
        let tickets: Vec<QueueTicket> = (0..8).map(|number| queue.enqueue(session(number)).unwrap()).collect();
        let barrier = std::sync::Barrier::new(tickets.len());
        let acquire = &|ticket: QueueTicket| {
            barrier.wait();
            ticket.try_acquire()
        };
        let permits: Vec<MachinePermit> = std::thread::scope(|scope| {
            let threads: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(move || acquire(ticket))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((permits.len(), queue.permits_in_use()), (3, 3));
        drop(permits);
        assert_eq!((queue.permits_in_use(), queue.free_permits()), (0, 8));
    }

    #[test]
    fn a_full_queue_rejects_with_its_length() {
        let queue = MachineQueue::new(0, 1);
        let _ticket = queue.enqueue(session(1)).unwrap();
        assert_eq!(queue.enqueue(session(2)).unwrap_err(), QueueFull { waiting: 1 });
    }
}
