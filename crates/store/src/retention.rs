//! How long a credential is retained, and its health.

use crate::{StoreError, UnixMs, row_reader::RowReader, text_enum::text_enum};
use anteroom_wire::provider::StoragePolicy;

text_enum! {
    /// The storage policy in the database: only policies under which a credential is stored.
    pub(crate) enum PolicyKind {
        /// Retained until its owner deletes it.
        Store = "store",
        /// Retained until it was delivered once.
        DeliverOnce = "deliver_once",
    }
}

text_enum! {
    /// The stored health of a credential. It may have expired since it was stored: readers must also compare
    /// [`CredentialRow::expires_at_ms`](crate::CredentialRow::expires_at_ms).
    pub enum HealthKind {
        /// The tool accepted it at the last check; a sign-in counts as a check.
        Valid = "valid",
        /// Valid, but it expires soon; the webhook message for this was enqueued.
        Expiring = "expiring",
        /// The tool rejected it, or it has expired.
        NeedsAuth = "needs_auth",
    }
}

/// How long a credential is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Until its owner deletes it.
    UntilDeleted,
    /// Until it was delivered once, at most until a deadline.
    UntilDelivered {
        /// The deadline, milliseconds since 1970.
        until_ms: UnixMs,
    },
}

impl Retention {
    /// The storage policy.
    pub fn storage_policy(self) -> StoragePolicy {
        match self {
            Self::UntilDeleted => StoragePolicy::Store,
            Self::UntilDelivered { .. } => StoragePolicy::DeliverOnce,
        }
    }

    /// The deadline for its delivery, if there is one.
    pub fn until_ms(self) -> Option<UnixMs> {
        match self {
            Self::UntilDeleted => None,
            Self::UntilDelivered { until_ms } => Some(until_ms),
        }
    }

    /// The policy in the database.
    pub(crate) fn kind(self) -> PolicyKind {
        match self {
            Self::UntilDeleted => PolicyKind::Store,
            Self::UntilDelivered { .. } => PolicyKind::DeliverOnce,
        }
    }

    /// Reads the retention from a credential's row.
    pub(crate) fn decode(reader: &RowReader<'_>) -> Result<Self, StoreError> {
        match (reader.parsed("policy")?, reader.number_or_null("deliver_until_ms")?) {
            (PolicyKind::Store, None) => Ok(Self::UntilDeleted),
            (PolicyKind::DeliverOnce, Some(until_ms)) => Ok(Self::UntilDelivered { until_ms }),
            (PolicyKind::Store, Some(_)) => Err(reader.corrupt_row_error("policy store with a delivery deadline")),
            (PolicyKind::DeliverOnce, None) => {
                Err(reader.corrupt_row_error("policy deliver_once without a delivery deadline"))
            }
        }
    }
}
