//! What is wrong with a row that was changed outside of this program.

use anteroom_vault::RowMacError;

/// What is wrong with a row that was changed outside of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// Its MAC is not valid.
    #[error(transparent)]
    Mac(#[from] RowMacError),
    /// Entries of the timeline are missing.
    #[error("{0} of its entries were removed outside of this server")]
    EntriesMissing(u64),
    /// The timeline has entries that were not counted.
    #[error("it has fewer entries by its count than in fact: the count was put back to an earlier one")]
    CountTooLow,
}
