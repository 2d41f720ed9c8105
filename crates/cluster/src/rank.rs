//! The order in which the waiting sessions of all hosts get machines: by class, then by rank, then by the time since which they wait.

/// A host with room takes a waiting session only after so many milliseconds, and those of a fenced host at once. Until then the host at
/// which the session was started asks the best hosts; if any host could take it earlier, sessions would be spread by chance.
pub const PULL_AFTER_MS: u64 = 500;

/// Who waits. People come before programs, and programs before checks that the server starts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FairClass {
    /// A person waits at a page.
    Person = 0,
    /// A program waits for a command.
    Command = 1,
    /// The server checks a stored credential.
    HealthCheck = 2,
}

impl FairClass {
    /// The number that the database orders by.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The rank of a session that begins to wait: `least_waiting` is the least rank of its class that waits, `own_greatest` the greatest rank
/// of its owner that waits in this class. So the k-th waiting session of an owner is behind the (k−1)-th of every other owner, and an
/// owner with a thousand waiting sessions delays the first session of another by one place.
pub fn fair_rank(least_waiting: Option<u64>, own_greatest: Option<u64>) -> u64 {
    let next_own = own_greatest.map_or(0, |rank| rank.saturating_add(1));
    least_waiting.unwrap_or(0).max(next_own)
}

#[cfg(test)]
mod tests;
