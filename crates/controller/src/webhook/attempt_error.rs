//! Why an attempt to deliver a message failed.

use super::{body::BuildFault, client::DeliveryError};
use crate::api_error::chain;

/// The message was not built or not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// Nothing was sent.
    #[error(transparent)]
    NotBuilt(#[from] BuildFault),
    /// The receiver did not accept it.
    #[error(transparent)]
    NotDelivered(#[from] DeliveryError),
}

impl AttemptError {
    /// The reason for the report and the timeline. The cause of a message that was not built is only for the log.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::NotBuilt(fault) => fault.to_string(),
            Self::NotDelivered(error) => chain(error),
        }
    }

    /// Whether the receiver may have accepted the message nevertheless. When in doubt, it may.
    pub(super) fn may_be_delivered(&self) -> bool {
        matches!(self, Self::NotDelivered(error) if error.may_be_delivered())
    }

    /// Whether the receiver accepts no further attempts.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::NotDelivered(error) if error.is_permanent())
    }

    /// The wait that the receiver requests, seconds.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        if let Self::NotDelivered(error) = self { error.retry_after_s() } else { None }
    }
}
