//! What the sweep sees.

use super::plan::{Seen, SeenRow};
use crate::{
    app::App,
    bundle::{
        self,
        shelf::{self, Excess, Item, Limits},
    },
    clock,
    leaks::look::{self, RECEIPT_ENDING},
    refusal::chain,
};
use anteroom_machine::{Receipt, State};
use anteroom_store::{StoreError, UntoldEnd};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Looks once. Machines before rows before owners: a machine that is seen without an owner has none, since it is entered in
/// its session's facts before it is started.
pub(super) async fn look(app: &App) -> Result<Seen, StoreError> {
    let now_ms = clock::now();
    let machines = app.machines.list().into_iter().filter(|(_, state)| match state {
        State::Requested | State::Cloning | State::Waiting { .. } | State::Ready { .. } => true,
        State::Stopping { .. } | State::Dead { .. } | State::Gone { .. } => false,
    });
    let machines: Vec<_> = machines.map(|(machine, _)| machine).collect();
    let rows = app.store.active_sessions().await?.into_iter().map(|row| {
        let (has_owner, has_provider) =
            (app.sessions.get(&row.id).is_some(), app.providers.get(&row.provider).is_some());
        SeenRow { row, has_owner, has_provider }
    });
    let rows = rows.collect();
    let machines = machines.into_iter().map(|machine| {
        let is_owned = app.sessions.of_machine(&machine).is_some();
        (machine, is_owned)
    });
    let machines = machines.collect();
    let ends = ends(app, now_ms).await?;
    let config = &app.config;
    let receipts = excess(config.receipts_dir(), RECEIPT_ENDING, bundle::receipt_limits(config), now_ms).await;
    let bundles = excess(config.bundles_dir(), bundle::ENDING, bundle::limits(config), now_ms).await;
    let half_receipts = half_written(config.receipts_dir()).await;
    let half_bundles = half_written(config.bundles_dir()).await;
    Ok(Seen { now_ms, rows, machines, receipts, bundles, half_receipts, half_bundles, ends })
}

/// Machines of sessions that had ended when this server began, whose end nobody put on the timeline and is on record by now.
async fn ends(app: &App, now_ms: u64) -> Result<Vec<(UntoldEnd, Receipt)>, StoreError> {
    let keep = bundle::receipt_limits(&app.config);
    if !app.sweeps.untold.is_known() {
        let since_ms = now_ms.saturating_sub(keep.s_max.saturating_mul(1_000));
        let limit = u32::try_from(keep.files_max).unwrap_or(u32::MAX);
        app.sweeps.untold.learn(app.store.untold_ends(since_ms, limit).await?);
    }
    let mut found = Vec::new();
    for end in app.sweeps.untold.all() {
        // One that lives ends first; where an owner is, it says so itself.
        if app.machines.watch(&end.machine).is_some() || app.sessions.get(&end.session).is_some() {
            continue;
        }
        let (machines, machine) = (app.machines.clone(), end.machine.clone());
        let read = tokio::task::spawn_blocking(move || machines.receipt(&machine)).await;
        match read.map_err(std::io::Error::other).flatten() {
            Ok(Some(receipt)) => found.push((end, receipt)),
            // It never began, or its receipt was removed since.
            Ok(None) => app.sweeps.untold.forget(&end),
            Err(error) => {
                tracing::warn!(outcome = "receipt_not_read", machine = %end.machine, error = %chain(&error), "a receipt cannot be read");
                app.sweeps.untold.forget(&end);
            }
        }
    }
    Ok(found)
}

async fn half_written(dir: PathBuf) -> Vec<Item> {
    let found = tokio::task::spawn_blocking(move || {
        let item = |path: PathBuf| {
            // A file that goes while it is looked at is no fault.
            let meta = path.metadata().ok()?;
            Some(Item { bytes: meta.len(), written: meta.modified().ok()?, path })
        };
        Ok(look::half_written(&dir)?.into_iter().filter_map(item).collect())
    });
    // A directory that cannot be read was told of with its whole files.
    found.await.map_err(std::io::Error::other).flatten().unwrap_or_default()
}

async fn excess(dir: PathBuf, ending: &'static str, limits: Limits, now_ms: u64) -> Vec<(Item, Excess)> {
    let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
    let shown = dir.display().to_string();
    let found = tokio::task::spawn_blocking(move || shelf::items(&dir, ending)).await;
    match found.map_err(std::io::Error::other).flatten() {
        Ok(items) => shelf::excess(items, limits, now),
        Err(error) => {
            tracing::warn!(outcome = "not_looked_at", path = shown, %error, "a directory of evidence cannot be read");
            Vec::new()
        }
    }
}
