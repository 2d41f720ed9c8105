//! How long a credential is kept, and whether it still counts.

use crate::{StoreError, UnixMs, cells::Cells, words::words};
use anteroom_wire::provider::StoragePolicy;

words! {
    /// A policy as the database has it: those under which something is stored.
    pub(crate) enum PolicyWord {
        /// Until its owner deletes it.
        Store = "store",
        /// Until it was handed out once.
        DeliverOnce = "deliver_once",
    }
}

words! {
    /// Whether a credential can be used, as far as was concluded and written down. By now its time may be over: who reads it looks at
    /// [`CredentialRow::ends_at_ms`](crate::CredentialRow::ends_at_ms) too.
    pub enum Health {
        /// The tool agreed when it was asked last; signing in counts.
        Valid = "valid",
        /// The same, and its end is near; somebody was told.
        Expiring = "expiring",
        /// The tool did not agree, or it has ended.
        NeedsAuth = "needs_auth",
    }
}

/// How long a credential is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Until its owner deletes it.
    UntilDeleted,
    /// Until it was handed out, once, but no longer than this.
    UntilHandedOut {
        /// Milliseconds since 1970.
        until_ms: UnixMs,
    },
}

impl Kept {
    /// The policy that this follows.
    pub fn policy(self) -> StoragePolicy {
        match self {
            Self::UntilDeleted => StoragePolicy::Store,
            Self::UntilHandedOut { .. } => StoragePolicy::DeliverOnce,
        }
    }

    /// Until when it waits to be handed out.
    pub fn until_ms(self) -> Option<UnixMs> {
        match self {
            Self::UntilDeleted => None,
            Self::UntilHandedOut { until_ms } => Some(until_ms),
        }
    }

    /// The word of it.
    pub(crate) fn word(self) -> PolicyWord {
        match self {
            Self::UntilDeleted => PolicyWord::Store,
            Self::UntilHandedOut { .. } => PolicyWord::DeliverOnce,
        }
    }

    /// Reads it off a credential's row.
    pub(crate) fn decode(cells: &Cells<'_>) -> Result<Self, StoreError> {
        match (cells.parsed("policy")?, cells.number_or_null("deliver_until_ms")?) {
            (PolicyWord::Store, None) => Ok(Self::UntilDeleted),
            (PolicyWord::DeliverOnce, Some(until_ms)) => Ok(Self::UntilHandedOut { until_ms }),
            (PolicyWord::Store, Some(_)) => Err(cells.impossible("kept, and to be delivered by some time")),
            (PolicyWord::DeliverOnce, None) => Err(cells.impossible("to be delivered once, and by no time")),
        }
    }
}
