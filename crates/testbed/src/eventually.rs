//! Waiting for a condition, with a deadline.

use anyhow::ensure;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Time between two evaluations of the condition.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Evaluates `condition` every 20 ms until it returns a value, and returns that value.
///
/// # Errors
/// The condition's own error, or no value within `limit`; the text then contains `what`.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(POLL_EVERY).await;
    }
}
