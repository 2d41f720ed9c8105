//! Who gets the next machine: first come, first served, with a visible place; and nobody while the host itself has no room
//! ([`Queue::guard`]).

use anteroom_wire::SessionId;
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How often those who wait look again whether the host has room: nobody tells when memory or disk come free.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Says whether the host has room for one more machine, or why not.
type AdmissionCheck = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Room for machines, and the sessions that wait for it.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    state: Mutex<QueueState>,
    admission_check: OnceLock<AdmissionCheck>,
    /// Held from the guard's answer until it is used: whoever is let in counts for the next one who asks.
    admitting: Mutex<()>,
    changed: watch::Sender<u64>,
    waiting_max: usize,
}

#[derive(Debug)]
struct QueueState {
    free: u32,
    /// Rooms that somebody has, also beyond what there is by number.
    in_use: u32,
    waiting: Vec<(u64, SessionId)>,
    next: u64,
    /// Why the guard let nobody in the last time.
    blocked_reason: Option<String>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("line", &self.state).finish_non_exhaustive()
    }
}

/// Room for one machine; dropping it gives the room to the next in line.
#[derive(Debug)]
pub struct MachinePermit(Queue);

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub struct QueueTicket {
    queue: Queue,
    number: u64,
}

/// The line is as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} sessions wait already, which is as many as may wait")]
pub struct QueueFull {
    /// How many wait.
    pub waiting: usize,
}

impl Queue {
    /// Room for `room` machines at once and a line of at most `waiting_max` sessions.
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
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.0.changed.send_modify(|change| *change += 1);
    }

    /// From now on `may` is asked before anybody is let in. The first guard stays.
    pub fn set_admission_check(&self, may: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let _ = self.0.admission_check.set(Box::new(may));
    }

    /// Why nobody who waits is let in although there is room by number; `None`: nobody waits for that.
    pub fn blocked_reason(&self) -> Option<String> {
        let state = self.state();
        state.blocked_reason.clone().filter(|_| !state.waiting.is_empty())
    }

    /// Asks the guard and remembers its answer.
    fn is_admitted(&self) -> bool {
        let why_not = self.0.admission_check.get().and_then(|may| may().err());
        let is_admitted = why_not.is_none();
        self.state().blocked_reason = why_not;
        is_admitted
    }

    /// Stands in line.
    ///
    /// # Errors
    /// The line is full and there is no room either.
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

    /// Takes room without standing in line, for a machine that lives already.
    pub fn acquire_for_adopted(&self) -> MachinePermit {
        let mut state = self.state();
        state.free = state.free.saturating_sub(1);
        state.in_use += 1;
        MachinePermit(self.clone())
    }

    /// How many have room: each has a machine, or is about to ask for one.
    pub fn in_use(&self) -> u32 {
        self.state().in_use
    }

    /// For how many more machines there is room by number.
    pub fn free(&self) -> u32 {
        self.state().free
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }
}

impl QueueTicket {
    /// The place, 1 is next; changes as others go.
    pub fn position(&self) -> u32 {
        let state = self.queue.state();
        let ahead = state.waiting.iter().position(|(number, _)| *number == self.number).unwrap_or(0);
        u32::try_from(ahead + 1).unwrap_or(u32::MAX)
    }

    /// Takes room if this place is near enough to the front and the host has room.
    pub fn try_acquire(&self) -> Option<MachinePermit> {
        if !self.is_next(&self.queue.state()) {
            return None;
        }
        let _alone = self.queue.0.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.queue.is_admitted() {
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

    /// Waits until there is room, telling each new position.
    pub async fn acquire(self, mut on_position: impl FnMut(u32)) -> MachinePermit {
        let mut changes = self.queue.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(room) = self.try_acquire() {
                return room;
            }
            on_position(self.position());
            tokio::select! {
                // The sender lives as long as this place.
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

    fn session(number: u8) -> SessionId {
        SessionId::from_parts(1, [number; 10])
    }

    #[tokio::test]
    async fn the_first_in_line_gets_the_room_that_comes_free() {
        let queue = Queue::new(1, 5);
        let room = queue.enqueue(session(1)).unwrap().acquire(|_| ()).await;
        let second = queue.enqueue(session(2)).unwrap();
        let third = queue.enqueue(session(3)).unwrap();
        assert_eq!((second.position(), third.position()), (1, 2));
        assert!(second.try_acquire().is_none() && third.try_acquire().is_none());
        drop(room);
        assert!(third.try_acquire().is_none(), "the second comes first");
        assert!(second.try_acquire().is_some());
    }

    #[tokio::test]
    async fn leaving_the_line_moves_the_others_up() {
        let queue = Queue::new(1, 5);
        let _room = queue.enqueue(session(1)).unwrap().acquire(|_| ()).await;
        let second = queue.enqueue(session(2)).unwrap();
        let third = queue.enqueue(session(3)).unwrap();
        drop(second);
        assert_eq!(third.position(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_while_the_host_has_no_room_and_it_is_said_why() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let (queue, has_room) = (Queue::new(5, 5), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&has_room);
        queue.set_admission_check(move || if asked.load(SeqCst) { Ok(()) } else { Err("the disk is full".to_owned()) });
        assert_eq!(queue.blocked_reason(), None, "nobody waits");
        let first = queue.enqueue(session(1)).unwrap();
        assert!(first.try_acquire().is_none());
        assert_eq!(queue.blocked_reason().as_deref(), Some("the disk is full"));
        let waiting = tokio::spawn(first.acquire(|_| ()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!waiting.is_finished());
        has_room.store(true, SeqCst);
        waiting.await.unwrap();
        assert_eq!(queue.blocked_reason(), None);
    }

    #[test]
    fn of_many_who_ask_at_once_no_more_are_let_in_than_the_host_has_room_for() {
        let queue = Queue::new(8, 8);
        let asked = queue.clone();
        queue.set_admission_check(move || {
            let in_use = asked.in_use();
            // Long enough that all others ask meanwhile.
            for _ in 0..1_000 {
                std::thread::yield_now();
            }
            if in_use < 3 { Ok(()) } else { Err("no room for a fourth".to_owned()) }
        });
        let places: Vec<QueueTicket> = (0..8).map(|number| queue.enqueue(session(number)).unwrap()).collect();
        let together = std::sync::Barrier::new(places.len());
        let enter = &|place: QueueTicket| {
            together.wait();
            place.try_acquire()
        };
        let rooms: Vec<MachinePermit> = std::thread::scope(|scope| {
            let asking: Vec<_> = places.into_iter().map(|place| scope.spawn(move || enter(place))).collect();
            asking.into_iter().filter_map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!((rooms.len(), queue.in_use()), (3, 3));
        drop(rooms);
        assert_eq!((queue.in_use(), queue.free()), (0, 8));
    }

    #[test]
    fn a_full_line_refuses_with_its_length() {
        let queue = Queue::new(0, 1);
        let _place = queue.enqueue(session(1)).unwrap();
        assert_eq!(queue.enqueue(session(2)).unwrap_err(), QueueFull { waiting: 1 });
    }
}
