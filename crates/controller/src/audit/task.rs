//! Writes the counts of repeated deeds and stores the head in the database, periodically.

use super::Audit;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Interval at which ended intervals of the counts are looked for.
const COUNTS_EVERY: Duration = Duration::from_millis(500);

/// Runs until `stop` is cancelled; [`Audit::close`] writes the rest.
pub async fn run_audit_task(audit: Arc<Audit>, stop: CancellationToken) {
    let mut counts = interval(COUNTS_EVERY);
    let mut heads = interval(Duration::from_millis(audit.head_every_ms));
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stored = 0;
    loop {
        tokio::select! {
            _ = counts.tick() => audit.write_counts(false).await,
            _ = heads.tick() => {
                let (seq, _) = audit.trail.signed_head();
                if seq != stored {
                    tracing::debug!(outcome = "audit_head", seq, "audit trail grew");
                    audit.store_head().await;
                    stored = seq;
                }
            }
            () = stop.cancelled() => return,
        }
    }
}
