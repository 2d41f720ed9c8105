//! Stops this host at its deadline: a thread of its own, since tasks may be late on a host that is overloaded or was paused.

use super::membership::Cluster;
use anteroom_cluster::boottime_ms;
use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// The longest time between two looks at the clock: sleeping does not count the time in which the host is suspended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Starts the thread. It calls `on_stop` each time the deadline has passed, and ends with the cluster. Without a cluster there is none.
///
/// # Errors
/// The thread cannot be started.
pub fn start(cluster: &Arc<Cluster>, on_stop: impl Fn() + Send + 'static) -> io::Result<()> {
    if !cluster.is_member() {
        return Ok(());
    }
    let cluster = Arc::downgrade(cluster);
    thread::Builder::new().name("renew-deadline".to_owned()).spawn(move || watch(&cluster, on_stop)).map(drop)
}

fn watch(cluster: &Weak<Cluster>, on_stop: impl Fn()) {
    while let Some(cluster) = cluster.upgrade() {
        let left = cluster.deadline.deadline().at_ms().saturating_sub(boottime_ms());
        if left == 0 && *cluster.acts.borrow() {
            cluster.stop();
            tracing::error!(
                outcome = "cluster_contact_lost",
                "no heartbeat of this host was acknowledged in time: its keepers end its machines, and nothing leaves it"
            );
            on_stop();
        }
        drop(cluster);
        thread::park_timeout(if left == 0 { LOOK_EVERY } else { LOOK_EVERY.min(Duration::from_millis(left)) });
    }
}
