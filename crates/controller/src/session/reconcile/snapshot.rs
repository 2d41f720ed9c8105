//! Collects the facts for a reconciliation.

use super::plan::{ActiveRow, ReconcileSnapshot};
use crate::{
    api_error::chain,
    retention::{self, BUNDLE_SUFFIX, ExceededLimit, RECEIPT_SUFFIX, RetainedFile, RetentionLimits},
    session::server_context::ServerContext,
    unix_time,
};
use anteroom_machine::{Receipt, State};
use anteroom_store::{StoreError, UnreportedMachineEnd};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Collects machines first, then rows, then supervisors: a machine without a supervisor in this order has none, since it is entered
/// in its session's state before it is started. Warm machines have none and are left alone.
pub(super) async fn collect_snapshot(server_context: &ServerContext) -> Result<ReconcileSnapshot, StoreError> {
    let now_ms = unix_time::now_unix_ms();
    let machines = server_context.machines.list().into_iter().filter(|(_, state)| match state {
        State::Requested | State::Cloning | State::Waiting { .. } | State::Ready { .. } => true,
        State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => false,
    });
    let machines: Vec<_> = machines.map(|(machine, _)| machine).collect();
    let rows = server_context.store.list_held_sessions().await?.into_iter().map(|row| {
        let (has_supervisor, has_provider) =
            (server_context.sessions.get(&row.id).is_some(), server_context.providers().get(&row.provider).is_some());
        ActiveRow { row, has_supervisor, has_provider }
    });
    let rows = rows.collect();
    let machines = machines.into_iter().map(|machine| {
        // In this order: a machine that a session takes is a warm one until it is in the session's state.
        let is_supervised =
            server_context.warm_machines.contains(&machine) || server_context.sessions.by_machine(&machine).is_some();
        (machine, is_supervised)
    });
    let machines = machines.collect();
    let ends = find_unreported_ends(server_context, now_ms).await?;
    let config = &server_context.config();
    let receipts = over_limit(config.receipts_dir(), RECEIPT_SUFFIX, retention::receipt_limits(config), now_ms).await;
    let bundles = over_limit(config.bundles_dir(), BUNDLE_SUFFIX, retention::bundle_limits(config), now_ms).await;
    let unfinished_receipts = unfinished_files(config.receipts_dir()).await;
    let unfinished_bundles = unfinished_files(config.bundles_dir()).await;
    Ok(ReconcileSnapshot { now_ms, rows, machines, receipts, bundles, unfinished_receipts, unfinished_bundles, ends })
}

/// Machines of sessions that had ended before this server started, whose end is on record and not on the timeline.
async fn find_unreported_ends(
    server_context: &ServerContext,
    now_ms: u64,
) -> Result<Vec<(UnreportedMachineEnd, Receipt)>, StoreError> {
    let keep = retention::receipt_limits(&server_context.config());
    if !server_context.reconcile_history.unreported_ends.is_loaded() {
        let since_ms = now_ms.saturating_sub(keep.age_s_max.saturating_mul(1_000));
        let limit = u32::try_from(keep.files_max).unwrap_or(u32::MAX);
        server_context
            .reconcile_history
            .unreported_ends
            .load(server_context.store.list_unreported_machine_ends(since_ms, limit).await?);
    }
    let mut found = Vec::new();
    for end in server_context.reconcile_history.unreported_ends.all() {
        // A running machine has not ended yet; a supervisor records the end itself.
        if server_context.machines.watch(&end.machine).is_some() || server_context.sessions.get(&end.session).is_some()
        {
            continue;
        }
        let (machines, machine) = (server_context.machines.clone(), end.machine.clone());
        let read = tokio::task::spawn_blocking(move || machines.read_receipt(&machine)).await;
        match read.map_err(std::io::Error::other).flatten() {
            Ok(Some(receipt)) => found.push((end, receipt)),
            // It never started, or its receipt was removed.
            Ok(None) => server_context.reconcile_history.unreported_ends.remove(&end),
            Err(error) => {
                tracing::warn!(outcome = "receipt_not_read", machine = %end.machine, error = %chain(&error), "receipt not read");
                server_context.reconcile_history.unreported_ends.remove(&end);
            }
        }
    }
    Ok(found)
}

async fn unfinished_files(dir: PathBuf) -> Vec<RetainedFile> {
    let found = tokio::task::spawn_blocking(move || {
        let file = |path: PathBuf| {
            // The file may be removed concurrently.
            let meta = path.metadata().ok()?;
            Some(RetainedFile { bytes: meta.len(), modified_at: meta.modified().ok()?, path })
        };
        Ok(retention::list_unfinished_files(&dir)?.into_iter().filter_map(file).collect())
    });
    // A directory that cannot be read was logged by `over_limit`.
    found.await.map_err(std::io::Error::other).flatten().unwrap_or_default()
}

async fn over_limit(
    dir: PathBuf,
    suffix: &'static str,
    limits: RetentionLimits,
    now_ms: u64,
) -> Vec<(RetainedFile, ExceededLimit)> {
    let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
    let shown = dir.display().to_string();
    let found = tokio::task::spawn_blocking(move || retention::list_files(&dir, suffix)).await;
    match found.map_err(std::io::Error::other).flatten() {
        Ok(files) => retention::find_over_limit(files, limits, now),
        Err(error) => {
            tracing::warn!(outcome = "not_looked_at", path = shown, %error, "a directory of evidence cannot be read");
            Vec::new()
        }
    }
}
