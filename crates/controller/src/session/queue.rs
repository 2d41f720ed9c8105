//! Who gets the next machine: first come, first served, with a visible place.

use anteroom_wire::SessionId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Room for machines, and the sessions that wait for it.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Mutex<Line>,
    changed: watch::Sender<u64>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Line {
    room: u32,
    waiting: Vec<(u64, SessionId)>,
    next: u64,
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
        let line = Line { room, waiting: Vec::new(), next: 0 };
        Self(Arc::new(Inner {
            line: Mutex::new(line),
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
        Room(self.clone())
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

    /// Takes room if this place is near enough to the front.
    pub fn try_take(&self) -> Option<Room> {
        let mut line = self.queue.line();
        let position = line.waiting.iter().position(|(number, _)| *number == self.number)?;
        if position >= line.room as usize {
            return None;
        }
        line.room -= 1;
        line.waiting.remove(position);
        drop(line);
        self.queue.tell();
        Some(Room(self.queue.clone()))
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
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
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
        self.0.line().room += 1;
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

    #[test]
    fn a_full_line_refuses_with_its_length() {
        let queue = Queue::new(0, 1);
        let _place = queue.stand(session(1)).unwrap();
        assert_eq!(queue.stand(session(2)).unwrap_err(), Full { waiting: 1 });
    }
}
