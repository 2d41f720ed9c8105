//! How long a credential is kept, and whether it still counts.

use crate::{StoreError, UnixMs, row::RowReader, text_enum::text_enum};
use anteroom_wire::provider::StoragePolicy;

text_enum! {
    /// A policy as the database has it: those under which something is stored.
    pub(crate) enum PolicyKind {
        /// Until its owner deletes it.
        Store = "store",
        /// Until it was handed out once.
        DeliverOnce = "deliver_once",
    }
}

text_enum! {
    /// Whether a credential can be used, as far as was concluded and written down. By now its time may be over: who reads it looks at
    /// [`CredentialRow::expires_at_ms`](crate::CredentialRow::expires_at_ms) too.
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
pub enum Retention {
    /// Until its owner deletes it.
    UntilDeleted,
    /// Until it was handed out, once, but no longer than this.
    UntilDelivered {
        /// Milliseconds since 1970.
        until_ms: UnixMs,
    },
}

impl Retention {
    /// The policy that this follows.
    pub fn policy(self) -> StoragePolicy {
        match self {
            Self::UntilDeleted => StoragePolicy::Store,
            Self::UntilDelivered { .. } => StoragePolicy::DeliverOnce,
        }
    }

    /// Until when it waits to be handed out.
    pub fn until_ms(self) -> Option<UnixMs> {
        match self {
            Self::UntilDeleted => None,
            Self::UntilDelivered { until_ms } => Some(until_ms),
        }
    }

    /// The word of it.
    pub(crate) fn kind(self) -> PolicyKind {
        match self {
            Self::UntilDeleted => PolicyKind::Store,
            Self::UntilDelivered { .. } => PolicyKind::DeliverOnce,
        }
    }

    /// Reads it off a credential's row.
    pub(crate) fn decode(reader: &RowReader<'_>) -> Result<Self, StoreError> {
        match (reader.parsed("policy")?, reader.number_or_null("deliver_until_ms")?) {
            (PolicyKind::Store, None) => Ok(Self::UntilDeleted),
            (PolicyKind::DeliverOnce, Some(until_ms)) => Ok(Self::UntilDelivered { until_ms }),
            (PolicyKind::Store, Some(_)) => Err(reader.corrupt("kept, and to be delivered by some time")),
            (PolicyKind::DeliverOnce, None) => Err(reader.corrupt("to be delivered once, and by no time")),
        }
    }
}
