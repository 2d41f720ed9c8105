//! The clock of a cluster is the database's: times that one host stores are compared by others. A host whose own clock is wrong goes by the
//! database's from its next look at it.

use crate::unix_time;
use anteroom_store::{Store, StoreError};

/// A clock that differs more from the database's is reported and corrected, milliseconds.
pub(super) const DIFFERENCE_MS_MAX: u64 = 2_000;

/// Compares this host's clock with the database's, and corrects the times of this program if it is wrong. Returns how far it is ahead,
/// milliseconds. Without a cluster nothing is asked.
///
/// # Errors
/// The database cannot be read.
pub async fn compare_clock(store: &Store) -> Result<i64, StoreError> {
    if store.holder().is_none() {
        return Ok(0);
    }
    let before_ms = unix_time::system_unix_ms();
    let database_ms = store.database_time_ms().await?;
    // The database was asked between two looks at this clock.
    let middle_ms = before_ms + unix_time::system_unix_ms().saturating_sub(before_ms) / 2;
    let ahead_ms = middle_ms.cast_signed() - database_ms.cast_signed();
    let is_wrong = ahead_ms.unsigned_abs() > DIFFERENCE_MS_MAX;
    unix_time::correct_by(if is_wrong { -ahead_ms } else { 0 });
    Ok(ahead_ms)
}
