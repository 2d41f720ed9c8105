//! When a stored credential is deleted.

use crate::{StoreError, UnixMs, row_reader::RowReader, text_enum::text_enum};
use anteroom_wire::provider::StoragePolicy;

text_enum! {
    /// The storage policy in the database: only policies under which a credential is stored.
    pub(crate) enum PolicyKind {
        /// Deleted by its owner.
        Store = "store",
        /// Deleted after it was delivered once.
        DeliverOnce = "deliver_once",
    }
}

/// When a stored credential is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// By its owner.
    ByOwner,
    /// After it was delivered once, at the latest at a deadline.
    AfterDelivery {
        /// The deadline, milliseconds since 1970.
        until_ms: UnixMs,
    },
}

impl DeletionPolicy {
    /// The storage policy.
    pub fn storage_policy(self) -> StoragePolicy {
        match self {
            Self::ByOwner => StoragePolicy::Store,
            Self::AfterDelivery { .. } => StoragePolicy::DeliverOnce,
        }
    }

    /// The deadline for its delivery, if there is one.
    pub fn until_ms(self) -> Option<UnixMs> {
        match self {
            Self::ByOwner => None,
            Self::AfterDelivery { until_ms } => Some(until_ms),
        }
    }

    /// The policy in the database.
    pub(crate) fn kind(self) -> PolicyKind {
        match self {
            Self::ByOwner => PolicyKind::Store,
            Self::AfterDelivery { .. } => PolicyKind::DeliverOnce,
        }
    }

    /// Reads the deletion policy from a credential's row.
    pub(crate) fn decode(reader: &RowReader<'_>) -> Result<Self, StoreError> {
        match (reader.parsed("policy")?, reader.number_or_null("deliver_until_ms")?) {
            (PolicyKind::Store, None) => Ok(Self::ByOwner),
            (PolicyKind::DeliverOnce, Some(until_ms)) => Ok(Self::AfterDelivery { until_ms }),
            (PolicyKind::Store, Some(_)) => Err(reader.corrupt_row_error("policy store with a delivery deadline")),
            (PolicyKind::DeliverOnce, None) => {
                Err(reader.corrupt_row_error("policy deliver_once without a delivery deadline"))
            }
        }
    }
}
