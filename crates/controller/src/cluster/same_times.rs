//! All hosts of a cluster need the same times: one that fences earlier than another one stops would give a session two machines.
//!
//! The first host stores its times. A host with others is refused while any host works with the stored ones; if none does for the longer of
//! both `fence_after_s`, all were stopped, and the new times count.

use super::{error::JoinError, registers::Registers};
use anteroom_cluster::{ClusterTimes, Mark};
use anteroom_store::Store;
use anteroom_wire::HostId;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two looks at the others, milliseconds.
const LOOK_MS: u64 = 500;

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredTimes {
    renew_deadline_ms: u64,
    fence_after_ms: u64,
}

/// A host that may work, with its heartbeats in both registers.
type Sign = (HostId, String, u64, Option<Mark>);

/// Requires that this host has the times of the others.
pub(super) async fn require(
    store: &Store,
    registers: &Registers,
    times: ClusterTimes,
    own: &HostId,
) -> Result<(), JoinError> {
    let mine = StoredTimes { renew_deadline_ms: times.renew_deadline_ms(), fence_after_ms: times.fence_after_ms() };
    loop {
        let stored = store.get_cluster_times().await?;
        let theirs = stored.as_deref().and_then(|text| serde_json::from_str::<StoredTimes>(text).ok());
        if theirs.as_ref() == Some(&mine) {
            return Ok(());
        }
        if let Some(theirs) = &theirs {
            wait_until_stopped(store, registers, &mine, theirs, own).await?;
        }
        let text = serde_json::to_string(&mine).unwrap_or_default();
        store.set_cluster_times(&text, stored.as_deref()).await?;
    }
}

async fn wait_until_stopped(
    store: &Store,
    registers: &Registers,
    mine: &StoredTimes,
    theirs: &StoredTimes,
    own: &HostId,
) -> Result<(), JoinError> {
    let before = signs(store, registers, own).await?;
    if before.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        outcome = "other_times",
        renew_deadline_ms = theirs.renew_deadline_ms,
        fence_after_ms = theirs.fence_after_ms,
        "the cluster has other times than this host is configured with; waiting whether any of its hosts works"
    );
    let until = Instant::now() + Duration::from_millis(mine.fence_after_ms.max(theirs.fence_after_ms));
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        let now = signs(store, registers, own).await?;
        if let Some((_, name, ..)) = now.iter().find(|sign| !before.contains(sign)) {
            return Err(JoinError::Settings(format!(
                "cluster: this host is configured with {}, but {name} works with {}: all hosts need the same times; to change them, stop \
                 all hosts first",
                words(mine),
                words(theirs)
            )));
        }
    }
    Ok(())
}

fn words(times: &StoredTimes) -> String {
    let StoredTimes { renew_deadline_ms, fence_after_ms } = times;
    format!("renew_deadline_s = {} and fence_after_s = {}", renew_deadline_ms / 1_000, fence_after_ms / 1_000)
}

/// The other hosts that were neither fenced nor removed.
async fn signs(store: &Store, registers: &Registers, own: &HostId) -> Result<Vec<Sign>, JoinError> {
    let observed = match &registers.etcd {
        Some(etcd) => etcd.read().await.map_err(|error| JoinError::Etcd(format!("endpoints: {error}")))?,
        None => Vec::new(),
    };
    let rows = store.list_hosts().await?.into_iter();
    let others = rows.filter(|row| row.id != *own && row.left_at_ms.is_none() && !row.is_fenced());
    let signs = others.map(|row| {
        let mark = observed.iter().find(|observed| observed.heartbeat.host == row.id).map(|observed| observed.mark);
        (row.id, row.name, row.heartbeats, mark)
    });
    Ok(signs.collect())
}
