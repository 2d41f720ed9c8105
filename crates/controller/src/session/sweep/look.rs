//! What the sweep sees.

use super::plan::{Seen, SeenRow};
use crate::{
    app::App,
    bundle::{
        self,
        shelf::{self, Excess, Item, Limits},
    },
    clock,
    leaks::look::RECEIPT_ENDING,
};
use anteroom_machine::State;
use anteroom_store::StoreError;
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
    let config = &app.config;
    let receipts = excess(config.receipts_dir(), RECEIPT_ENDING, bundle::receipt_limits(config), now_ms).await;
    let bundles = excess(config.bundles_dir(), bundle::ENDING, bundle::limits(config), now_ms).await;
    Ok(Seen { now_ms, rows, machines, receipts, bundles })
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
