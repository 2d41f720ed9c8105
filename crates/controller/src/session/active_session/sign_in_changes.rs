//! Limits how often a guest changes the address and the code that a user sees, and how many of them are recorded.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::time::Instant;

/// The most changes within [`CHANGES_WINDOW`]. A tool shows a new address or code a few times a minute at most.
pub const SIGN_IN_CHANGES_MAX: usize = 30;
/// The time in which changes are counted.
const CHANGES_WINDOW: Duration = Duration::from_secs(60);
/// The most addresses and codes that are remembered as recorded.
const RECORDED_MAX: usize = 64;

/// An address or code that a guest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInChange {
    /// It was not reported before.
    New,
    /// It was reported before.
    Known,
    /// There were too many changes.
    Refused,
}

/// The addresses and codes that a guest has reported.
#[derive(Debug, Clone, Default)]
pub struct SignInChanges {
    hasher: RandomState,
    /// Hashes of what was recorded, the oldest first.
    recorded: VecDeque<u64>,
    window: Option<Instant>,
    in_window: usize,
}

impl SignInChanges {
    /// Counts a report of this text.
    pub fn observe(&mut self, text: &str) -> SignInChange {
        let now = Instant::now();
        if self.window.is_none_or(|start| now - start > CHANGES_WINDOW) {
            (self.window, self.in_window) = (Some(now), 0);
        }
        if self.in_window >= SIGN_IN_CHANGES_MAX {
            return SignInChange::Refused;
        }
        self.in_window += 1;
        let hash = self.hasher.hash_one(text);
        if self.recorded.contains(&hash) {
            return SignInChange::Known;
        }
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.pop_front();
        }
        self.recorded.push_back(hash);
        SignInChange::New
    }
}
