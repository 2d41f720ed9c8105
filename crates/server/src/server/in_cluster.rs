//! What a server does as one host of a cluster. A server without a cluster does nothing of it.

use super::MachineEnvironment;
use crate::{app::App, state_dir::StateDir};
use anteroom_controller::{
    cluster::{self, Cluster, HostProfile},
    config::Config,
    providers::Providers,
};
use anteroom_machine::MachinesSettings;
use anteroom_store::Store;
use anteroom_tunnel::CloseCause;
use anyhow::Context;
use std::{path::PathBuf, sync::Arc};
use tokio_util::task::AbortOnDropHandle;

/// Joins the configured cluster, if there is one.
pub(super) async fn join_cluster(
    config: &Config,
    store: &Store,
    state: &StateDir,
    environment: &MachineEnvironment,
    providers: &Providers,
) -> anyhow::Result<Arc<Cluster>> {
    let profile = HostProfile {
        image: environment.image.hash.clone(),
        providers: providers.iter().map(|provider| provider.id.to_string()).collect(),
    };
    let run_dir = MachinesSettings::in_state_dir(&state.path, PathBuf::new()).run_dir;
    Ok(Arc::new(cluster::join(config, store, &run_dir, profile).await.context("the cluster")?))
}

/// Watches the renew deadline, sends heartbeats, and waits until this host may act. Without a cluster it may at once.
pub(super) async fn act_in_cluster(app: &App) -> anyhow::Result<AbortOnDropHandle<()>> {
    let sessions = Arc::clone(&app.sessions);
    let close_sockets = move || sessions.close_sockets(CloseCause::ClusterContactLost);
    cluster::deadline_thread::start(&app.cluster, close_sockets).context("the thread of the renew deadline")?;
    let heartbeats = AbortOnDropHandle::new(tokio::spawn(cluster::run_cluster(app.server_context.clone())));
    app.cluster.wait_may_act().await;
    Ok(heartbeats)
}
