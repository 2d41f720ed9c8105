//! A map with a bounded number of entries that expire.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Entries with random keys and a common lifetime.
#[derive(Debug)]
pub(super) struct ExpiringMap<T> {
    entries: HashMap<String, (Instant, T)>,
    entries_max: usize,
    lifetime: Duration,
}

impl<T> ExpiringMap<T> {
    pub(super) fn new(entries_max: usize, lifetime: Duration) -> Self {
        Self { entries: HashMap::new(), entries_max, lifetime }
    }

    /// Inserts an entry. Returns false if the map is full of entries that have not expired.
    pub(super) fn insert(&mut self, key: String, value: T) -> bool {
        let now = Instant::now();
        if self.entries.len() >= self.entries_max {
            self.entries.retain(|_, (expires, _)| *expires > now);
        }
        let has_capacity = self.entries.len() < self.entries_max;
        if has_capacity {
            self.entries.insert(key, (now + self.lifetime, value));
        }
        has_capacity
    }

    /// The value for `key`, unless it has expired.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        let (expires, value) = self.entries.get(key)?;
        (*expires > Instant::now()).then_some(value)
    }

    /// The value for `key` to change, unless it has expired.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        let (expires, value) = self.entries.get_mut(key)?;
        (*expires > Instant::now()).then_some(value)
    }

    /// Removes the entry and returns its value, unless it has expired.
    pub(super) fn remove(&mut self, key: &str) -> Option<T> {
        let (expires, value) = self.entries.remove(key)?;
        (expires > Instant::now()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_rejects_entries_until_one_expires_or_is_removed() {
        let mut map = ExpiringMap::new(2, Duration::from_secs(60));
        assert!(map.insert("a".into(), 1) && map.insert("b".into(), 2));
        assert!(!map.insert("c".into(), 3));
        assert_eq!(map.remove("a"), Some(1));
        assert_eq!(map.remove("a"), None);
        assert!(map.insert("c".into(), 3));

        let mut expired = ExpiringMap::new(1, Duration::ZERO);
        assert!(expired.insert("a".into(), 1));
        assert_eq!(expired.get("a"), None);
        assert!(expired.insert("b".into(), 2), "an expired entry frees its slot");
    }
}
