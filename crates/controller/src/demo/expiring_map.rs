//! A bounded shelf of things that expire.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Things under random keys, each for a limited time.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    things: HashMap<String, (Instant, T)>,
    things_max: usize,
    life: Duration,
}

impl<T> Shelf<T> {
    pub(super) fn new(things_max: usize, life: Duration) -> Self {
        Self { things: HashMap::new(), things_max, life }
    }

    /// Puts a thing under `key`; false when the shelf is full of things that are still good.
    pub(super) fn put(&mut self, key: String, thing: T) -> bool {
        let now = Instant::now();
        if self.things.len() >= self.things_max {
            self.things.retain(|_, (until, _)| *until > now);
        }
        let room = self.things.len() < self.things_max;
        if room {
            self.things.insert(key, (now + self.life, thing));
        }
        room
    }

    /// The thing under `key`, if it is still good.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        let (until, thing) = self.things.get(key)?;
        (*until > Instant::now()).then_some(thing)
    }

    /// As [`Self::get`], and it is gone from the shelf.
    pub(super) fn take(&mut self, key: &str) -> Option<T> {
        let (until, thing) = self.things.remove(key)?;
        (until > Instant::now()).then_some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shelf_refuses_until_something_expires_and_a_thing_is_taken_once() {
        let mut shelf = Shelf::new(2, Duration::from_secs(60));
        assert!(shelf.put("a".into(), 1) && shelf.put("b".into(), 2));
        assert!(!shelf.put("c".into(), 3));
        assert_eq!(shelf.take("a"), Some(1));
        assert_eq!(shelf.take("a"), None);
        assert!(shelf.put("c".into(), 3));

        let mut past = Shelf::new(1, Duration::ZERO);
        assert!(past.put("a".into(), 1));
        assert_eq!(past.get("a"), None);
        assert!(past.put("b".into(), 2), "an expired thing makes room");
    }
}
