//! Sign-ins that have begun: each is bound to a browser, used once, and forgotten after some minutes.

use super::Person;
use anteroom_store::{Sha256Hex, UnixMs};
use anteroom_wire::CallerId;
use openidconnect::{Nonce, PkceCodeVerifier};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// Sign-ins that are held in all. A stranger can begin them, so the oldest is dropped for a new one.
pub const PENDING_MAX: usize = 4_096;
/// Sign-ins that are held for one client network. Its oldest is dropped for a new one.
pub const PENDING_BY_NETWORK_MAX: usize = 200;

/// Why the person authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To sign a browser in.
    SignIn,
    /// To confirm that the person who signed this browser in is present.
    Confirm {
        /// The caller that the browser's cookie authenticates.
        caller: CallerId,
        /// Who signed in.
        person: Person,
    },
}

/// A sign-in that has begun.
pub(super) struct PendingSignIn {
    pub(super) purpose: Purpose,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
    /// The hash of the browser's key.
    pub(super) key: Sha256Hex,
    pub(super) begun_at_ms: UnixMs,
    /// The network of the client; `None`: the operator's socket.
    pub(super) network: Option<IpAddr>,
}

/// The sign-ins that have begun.
pub(super) struct PendingSignIns {
    lifetime_ms: u64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// By their number, so that the oldest is the first.
    by_number: BTreeMap<u64, (String, PendingSignIn)>,
    numbers: HashMap<String, u64>,
    numbers_by_network: HashMap<Option<IpAddr>, BTreeSet<u64>>,
    next: u64,
}

impl PendingSignIns {
    pub(super) fn new(lifetime_ms: u64) -> Self {
        Self { lifetime_ms, pending: Mutex::default() }
    }

    /// Remembers a sign-in under its `state`.
    pub(super) fn insert(&self, state: &str, sign_in: PendingSignIn) {
        let mut pending = self.pending.lock();
        pending.remove_expired(sign_in.begun_at_ms, self.lifetime_ms);
        let of_network = pending.numbers_by_network.get(&sign_in.network);
        let of_network = of_network.filter(|numbers| numbers.len() >= PENDING_BY_NETWORK_MAX);
        let is_full = pending.by_number.len() >= PENDING_MAX;
        let oldest = || pending.by_number.keys().next().filter(|_| is_full);
        if let Some(dropped) = of_network.and_then(BTreeSet::first).or_else(oldest).copied() {
            pending.remove(dropped);
        }
        let number = pending.next;
        pending.next += 1;
        pending.numbers.insert(state.to_owned(), number);
        pending.numbers_by_network.entry(sign_in.network).or_default().insert(number);
        pending.by_number.insert(number, (state.to_owned(), sign_in));
    }

    /// Takes the sign-in with this `state`, which the browser with this key began: it cannot be used again. `None`: it is unknown, used,
    /// expired, or another browser's.
    pub(super) fn take(&self, state: &str, key: &Sha256Hex, now_ms: UnixMs) -> Option<PendingSignIn> {
        let mut pending = self.pending.lock();
        pending.remove_expired(now_ms, self.lifetime_ms);
        let number = *pending.numbers.get(state)?;
        let is_own = pending.by_number.get(&number).is_some_and(|(_, sign_in)| sign_in.key == *key);
        if is_own { pending.remove(number) } else { None }
    }
}

impl Pending {
    fn remove(&mut self, number: u64) -> Option<PendingSignIn> {
        let (state, sign_in) = self.by_number.remove(&number)?;
        self.numbers.remove(&state);
        if let Some(of_network) = self.numbers_by_network.get_mut(&sign_in.network) {
            of_network.remove(&number);
            if of_network.is_empty() {
                self.numbers_by_network.remove(&sign_in.network);
            }
        }
        Some(sign_in)
    }

    fn remove_expired(&mut self, now_ms: UnixMs, lifetime_ms: u64) {
        while let Some((number, (_, oldest))) = self.by_number.first_key_value()
            && now_ms >= oldest.begun_at_ms.saturating_add(lifetime_ms)
        {
            let number = *number;
            self.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME_MS: u64 = 600_000;

    fn sign_in(key: &str, network: u8, begun_at_ms: u64) -> PendingSignIn {
        PendingSignIn {
            purpose: Purpose::SignIn,
            nonce: Nonce::new("n".to_owned()),
            verifier: PkceCodeVerifier::new("v".repeat(43)),
            key: Sha256Hex::of_bytes(key.as_bytes()),
            begun_at_ms,
            network: Some(IpAddr::from([192, 0, 2, network])),
        }
    }

    #[test]
    fn a_sign_in_is_taken_once_by_its_own_browser_in_time() {
        let pending = PendingSignIns::new(LIFETIME_MS);
        let key = |text: &str| Sha256Hex::of_bytes(text.as_bytes());
        pending.insert("one", sign_in("own", 1, 0));
        assert!(pending.take("one", &key("other"), 1).is_none(), "another browser");
        assert!(pending.take("two", &key("own"), 1).is_none(), "unknown");
        assert!(pending.take("one", &key("own"), 1).is_some());
        assert!(pending.take("one", &key("own"), 1).is_none(), "used");
        pending.insert("two", sign_in("own", 1, 0));
        assert!(pending.take("two", &key("own"), LIFETIME_MS).is_none(), "expired");
    }

    #[test]
    fn strangers_make_the_server_hold_a_bounded_number() {
        let pending = PendingSignIns::new(LIFETIME_MS);
        let held = || pending.pending.lock().by_number.len();
        pending.insert("other", sign_in("own", 0, 0));
        for number in 0..PENDING_BY_NETWORK_MAX + 10 {
            pending.insert(&format!("flood {number}"), sign_in("flood", 1, 1));
        }
        assert_eq!(held(), PENDING_BY_NETWORK_MAX + 1);
        assert!(pending.take("other", &Sha256Hex::of_bytes(b"own"), 2).is_some(), "other networks keep theirs");
        for network in 1..=u8::MAX {
            for number in 0..20 {
                pending.insert(&format!("flood {network} {number}"), sign_in("flood", network, 2));
            }
        }
        assert_eq!(held(), PENDING_MAX);
        assert_eq!(pending.pending.lock().numbers.len(), PENDING_MAX);
        pending.insert("later", sign_in("own", 1, LIFETIME_MS + 2));
        assert_eq!(held(), 1);
        assert_eq!(pending.pending.lock().numbers_by_network.len(), 1);
    }
}
