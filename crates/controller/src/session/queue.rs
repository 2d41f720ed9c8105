//! Who gets the next machine: first come, first served, with a visible place; and nobody while the host itself has no room
//! ([`Queue::guard`]).

use anteroom_wire::SessionId;
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How often those who wait look again whether the host has room: nobody tells when memory or disk come free.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Says whether the host has room for one more machine, or why not.
type Guard = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Room for machines, and the sessions that wait for it.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    line: Mutex<Line>,
    guard: OnceLock<Guard>,
    /// Held from the guard's answer until it is used: whoever is let in counts for the next one who asks.
    entering: Mutex<()>,
    changed: watch::Sender<u64>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Line {
    room: u32,
    /// Rooms that somebody has, also beyond what there is by number.
    given: u32,
    waiting: Vec<(u64, SessionId)>,
    next: u64,
    /// Why the guard let nobody in the last time.
    held: Option<String>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Room for one machine; dropping it gives the room to the next in line.
#[derive(Debug)]
pub struct Room(Queue);

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    queue: Queue,
    number: u64,
}

/// The line is as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} sessions wait already, which is as many as may wait")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
}

impl Queue {
    /// Room for `room` machines at once and a line of at most `waiting_max` sessions.
    pub fn new(room: u32, waiting_max: u32) -> Self {
        let line = Line { room, given: 0, waiting: Vec::new(), next: 0, held: None };
        Self(Arc::new(Inner {
            line: Mutex::new(line),
            guard: OnceLock::new(),
            entering: Mutex::new(()),
            changed: watch::channel(0).0,
            waiting_max: waiting_max as usize,
        }))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_modify(|change| *change += 1);
    }

    /// From now on `may` is asked before anybody is let in. The first guard stays.
    pub fn guard(&self, may: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let _ = self.0.guard.set(Box::new(may));
    }

    /// Why nobody who waits is let in although there is room by number; `None`: nobody waits for that.
    pub fn held(&self) -> Option<String> {
        let line = self.line();
        line.held.clone().filter(|_| !line.waiting.is_empty())
    }

    /// Asks the guard and remembers its answer.
    fn is_open(&self) -> bool {
        let why_not = self.0.guard.get().and_then(|may| may().err());
        let is_open = why_not.is_none();
        self.line().held = why_not;
        is_open
    }

    /// Stands in line.
    ///
    /// # Errors
    /// The line is full and there is no room either.
    pub fn stand(&self, session: SessionId) -> Result<Place, Full> {
        let mut line = self.line();
        let ahead = line.waiting.len();
        if ahead >= self.0.waiting_max + line.room as usize {
            return Err(Full { waiting: ahead });
        }
        let number = line.next;
        line.next += 1;
        line.waiting.push((number, session));
        Ok(Place { queue: self.clone(), number })
    }

    /// Takes room without standing in line, for a machine that lives already.
    pub fn take_for_adopted(&self) -> Room {
        let mut line = self.line();
        line.room = line.room.saturating_sub(1);
        line.given += 1;
        Room(self.clone())
    }

    /// How many have room: each has a machine, or is about to ask for one.
    pub fn given(&self) -> u32 {
        self.line().given
    }

    /// For how many more machines there is room by number.
    pub fn free(&self) -> u32 {
        self.line().room
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.line().waiting.len()
    }
}

impl Place {
    /// The place, 1 is next; changes as others go.
    pub fn position(&self) -> u32 {
        let line = self.queue.line();
        let ahead = line.waiting.iter().position(|(number, _)| *number == self.number).unwrap_or(0);
        u32::try_from(ahead + 1).unwrap_or(u32::MAX)
    }

    /// Takes room if this place is near enough to the front and the host has room.
    pub fn try_take(&self) -> Option<Room> {
        if !self.is_near(&self.queue.line()) {
            return None;
        }
        let _alone = self.queue.0.entering.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.queue.is_open() {
            return None;
        }
        let mut line = self.queue.line();
        let position = line.waiting.iter().position(|(number, _)| *number == self.number)?;
        if position >= line.room as usize {
            return None;
        }
        line.room -= 1;
        line.given += 1;
        line.waiting.remove(position);
        drop(line);
        self.queue.tell();
        Some(Room(self.queue.clone()))
    }

    fn is_near(&self, line: &Line) -> bool {
        let position = line.waiting.iter().position(|(number, _)| *number == self.number);
        position.is_some_and(|position| position < line.room as usize)
    }

    /// Waits until there is room, telling each new position.
    pub async fn take(self, mut moved: impl FnMut(u32)) -> Room {
        let mut changes = self.queue.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(room) = self.try_take() {
                return room;
            }
            moved(self.position());
            tokio::select! {
                // The sender lives as long as this place.
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY), if self.queue.0.guard.get().is_some() => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.line().waiting.retain(|(number, _)| *number != self.number);
        self.queue.tell();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.room += 1;
        line.given = line.given.saturating_sub(1);
        drop(line);
        self.0.tell();
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
        let room = queue.stand(session(1)).unwrap().take(|_| ()).await;
        let second = queue.stand(session(2)).unwrap();
        let third = queue.stand(session(3)).unwrap();
        assert_eq!((second.position(), third.position()), (1, 2));
        assert!(second.try_take().is_none() && third.try_take().is_none());
        drop(room);
        assert!(third.try_take().is_none(), "the second comes first");
        assert!(second.try_take().is_some());
    }

    #[tokio::test]
    async fn leaving_the_line_moves_the_others_up() {
        let queue = Queue::new(1, 5);
        let _room = queue.stand(session(1)).unwrap().take(|_| ()).await;
        let second = queue.stand(session(2)).unwrap();
        let third = queue.stand(session(3)).unwrap();
        drop(second);
        assert_eq!(third.position(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_while_the_host_has_no_room_and_it_is_said_why() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        let (queue, has_room) = (Queue::new(5, 5), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&has_room);
        queue.guard(move || if asked.load(SeqCst) { Ok(()) } else { Err("the disk is full".to_owned()) });
        assert_eq!(queue.held(), None, "nobody waits");
        let first = queue.stand(session(1)).unwrap();
        assert!(first.try_take().is_none());
        assert_eq!(queue.held().as_deref(), Some("the disk is full"));
        let waiting = tokio::spawn(first.take(|_| ()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!waiting.is_finished());
        has_room.store(true, SeqCst);
        waiting.await.unwrap();
        assert_eq!(queue.held(), None);
    }

    #[test]
    fn of_many_who_ask_at_once_no_more_are_let_in_than_the_host_has_room_for() {
        let queue = Queue::new(8, 8);
        let asked = queue.clone();
        queue.guard(move || {
            let given = asked.given();
            // Long enough that all others ask meanwhile.
            for _ in 0..1_000 {
                std::thread::yield_now();
            }
            if given < 3 { Ok(()) } else { Err("no room for a fourth".to_owned()) }
        });
        let places: Vec<Place> = (0..8).map(|number| queue.stand(session(number)).unwrap()).collect();
        let together = std::sync::Barrier::new(places.len());
        let enter = &|place: Place| {
            together.wait();
            place.try_take()
        };
        let rooms: Vec<Room> = std::thread::scope(|scope| {
            let asking: Vec<_> = places.into_iter().map(|place| scope.spawn(move || enter(place))).collect();
            asking.into_iter().filter_map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!((rooms.len(), queue.given()), (3, 3));
        drop(rooms);
        assert_eq!((queue.given(), queue.free()), (0, 8));
    }

    #[test]
    fn a_full_line_refuses_with_its_length() {
        let queue = Queue::new(0, 1);
        let _place = queue.stand(session(1)).unwrap();
        assert_eq!(queue.stand(session(2)).unwrap_err(), Full { waiting: 1 });
    }
}
