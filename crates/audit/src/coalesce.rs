//! Counts repeated deeds, so that viewers, guests and strangers cannot fill the trail or push older records out of it.

use crate::{Action, Entry, OK, Recording, Subject};
use std::collections::{HashMap, hash_map};

/// Peers and routes of strangers that are counted apart; all others are counted together.
pub const STRANGERS_MAX: usize = 64;
/// Deeds of known callers that are counted apart.
pub const KNOWN_MAX: usize = 4_096;
/// The interval doubles while the deeds go on, up to this multiple of the first one.
const INTERVALS_MAX: u64 = 64;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    action: Action,
    outcome: String,
    actor: Option<String>,
    /// For strangers: peer and route.
    from: Option<(Option<String>, Option<String>)>,
    subject: Subject,
}

#[derive(Debug)]
struct Repeated {
    /// What is recorded at the end of the interval, if `count` is not 0.
    entry: Entry,
    count: u64,
    ends_at_ms: u64,
    interval_ms: u64,
}

/// Counts repeated deeds for an interval.
#[derive(Debug)]
pub struct Coalescer {
    interval_ms: u64,
    repeated: HashMap<Key, Repeated>,
    strangers: usize,
}

impl Coalescer {
    /// Records a deed at most once in this interval, milliseconds; the interval doubles while it is repeated.
    pub fn new(interval_ms: u64) -> Self {
        Self { interval_ms, repeated: HashMap::new(), strangers: 0 }
    }

    /// Returns the entry if it is to be recorded now; otherwise it was counted.
    pub fn admit(&mut self, entry: Entry, now_ms: u64) -> Option<Entry> {
        if entry.outcome == OK && entry.action.recording() != Recording::Counted {
            return Some(entry);
        }
        if entry.outcome == "attempted" {
            return Some(entry);
        }
        let is_stranger = entry.actor.id.is_none();
        let mut key = key_of(&entry, is_stranger);
        let is_full = if is_stranger {
            self.strangers >= STRANGERS_MAX
        } else {
            self.repeated.len() - self.strangers >= KNOWN_MAX
        };
        if is_full && !self.repeated.contains_key(&key) {
            key = Key { actor: None, from: None, subject: Subject::default(), ..key };
        }
        match self.repeated.entry(key) {
            hash_map::Entry::Occupied(mut repeated) => {
                let repeated = repeated.get_mut();
                repeated.count = repeated.count.saturating_add(entry.count);
                None
            }
            hash_map::Entry::Vacant(place) => {
                if place.key().is_stranger() {
                    self.strangers += 1;
                }
                let mut counted = entry.clone();
                if place.key().actor.is_none() && place.key().from.is_none() {
                    // It counts the deeds of several callers and peers.
                    counted =
                        Entry { actor: crate::Actor::stranger(), peer: None, subject: Subject::default(), ..counted };
                    counted.details.insert("from".to_owned(), "several".to_owned());
                }
                let ends_at_ms = now_ms.saturating_add(self.interval_ms);
                place.insert(Repeated { entry: counted, count: 0, ends_at_ms, interval_ms: self.interval_ms });
                Some(entry)
            }
        }
    }

    /// The counts of the intervals that have ended; with `all` also those of the others.
    pub fn take_counts(&mut self, now_ms: u64, all: bool) -> Vec<Entry> {
        let mut counts = Vec::new();
        let longest_ms = self.interval_ms.saturating_mul(INTERVALS_MAX);
        self.repeated.retain(|key, repeated| {
            if !all && now_ms < repeated.ends_at_ms {
                return true;
            }
            if repeated.count == 0 {
                if key.is_stranger() {
                    self.strangers = self.strangers.saturating_sub(1);
                }
                return false;
            }
            let mut entry = repeated.entry.clone();
            entry.count = std::mem::take(&mut repeated.count);
            entry.request = None;
            entry.details.insert("interval_ms".to_owned(), repeated.interval_ms.to_string());
            counts.push(entry);
            repeated.interval_ms = repeated.interval_ms.saturating_mul(2).min(longest_ms);
            repeated.ends_at_ms = now_ms.saturating_add(repeated.interval_ms);
            true
        });
        counts
    }
}

impl Key {
    fn is_stranger(&self) -> bool {
        self.actor.is_none()
    }
}

fn key_of(entry: &Entry, is_stranger: bool) -> Key {
    Key {
        action: entry.action,
        outcome: entry.outcome.clone(),
        actor: entry.actor.id.clone(),
        from: is_stranger.then(|| (entry.peer.as_deref().map(network_of), entry.details.get("route").cloned())),
        // A caller may name any session in a request that is refused.
        subject: if entry.outcome == OK && !is_stranger { entry.subject.clone() } else { Subject::default() },
    }
}

/// The network that one stranger has: an IPv4 address, or the /64 of an IPv6 address.
fn network_of(peer: &str) -> String {
    match peer.parse::<std::net::Ipv6Addr>() {
        Ok(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) => peer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Actor;

    fn stranger(peer: &str) -> Entry {
        let entry = Entry::new(Action::IdentificationFailed).with_detail("route", "GET /api/me");
        Entry { outcome: "unauthenticated".into(), actor: Actor::stranger(), peer: Some(peer.into()), ..entry }
    }

    fn of_caller(action: Action, outcome: &str, session: &str) -> Entry {
        let actor = Actor { id: Some("clr_1".into()), kind: "cookie".into(), ..Actor::default() };
        let subject = Subject { session: Some(session.into()), ..Subject::default() };
        Entry { outcome: outcome.into(), actor, subject, ..Entry::new(action) }
    }

    #[test]
    fn first_of_an_interval_is_recorded_and_the_others_are_counted() {
        let mut coalescer = Coalescer::new(1_000);
        assert!(coalescer.admit(stranger("192.0.2.1"), 0).is_some());
        for _ in 0..5_999 {
            assert_eq!(coalescer.admit(stranger("192.0.2.1"), 10), None);
        }
        assert!(coalescer.admit(stranger("192.0.2.2"), 10).is_some(), "another peer");
        assert_eq!(coalescer.take_counts(999, false), []);
        let counts = coalescer.take_counts(1_000, false);
        assert_eq!(counts.iter().map(|entry| entry.count).collect::<Vec<_>>(), [5_999]);
        assert_eq!(coalescer.admit(stranger("192.0.2.1"), 1_500), None, "the next interval is longer");
        assert_eq!(coalescer.take_counts(2_999, false).len(), 0);
        assert_eq!(coalescer.take_counts(3_000, false)[0].count, 1);
        assert!(coalescer.take_counts(1 << 40, false).is_empty(), "a quiet interval is not recorded");
        assert!(coalescer.admit(stranger("192.0.2.1"), 1 << 40).is_some());
    }

    #[test]
    fn many_peers_are_counted_together() {
        let mut coalescer = Coalescer::new(1_000);
        let recorded = (0..6_000_u32).filter(|n| {
            let peer = std::net::Ipv6Addr::from(u128::from(*n) << 64).to_string();
            coalescer.admit(stranger(&peer), 0).is_some()
        });
        assert_eq!(recorded.count(), STRANGERS_MAX + 1);
        let counts = coalescer.take_counts(1_000, false);
        assert_eq!((counts.len(), counts[0].count, counts[0].peer.as_deref()), (1, 6_000 - 65, None));
        assert!(coalescer.take_counts(1 << 40, false).is_empty());
        assert_eq!((coalescer.strangers, coalescer.repeated.len()), (0, 0), "nothing is kept");
    }

    #[test]
    fn deeds_that_reveal_or_create_are_each_recorded_but_not_their_refusals() {
        let mut coalescer = Coalescer::new(1_000);
        for _ in 0..3 {
            assert!(coalescer.admit(of_caller(Action::SessionStart, OK, "ses_1"), 0).is_some());
            assert!(coalescer.admit(of_caller(Action::CredentialLease, "attempted", "ses_1"), 0).is_some());
        }
        let refused = (0..100).filter(|n| {
            coalescer.admit(of_caller(Action::SessionStart, "not_owner", &format!("ses_{n}")), 0).is_some()
        });
        assert_eq!(refused.count(), 1);
        let pasted =
            (0..100).filter(|_| coalescer.admit(of_caller(Action::InputPaste, OK, "ses_1"), 0).is_some()).count();
        assert_eq!(pasted, 1);
        assert!(coalescer.admit(of_caller(Action::InputPaste, OK, "ses_2"), 0).is_some(), "another session");
    }
}
