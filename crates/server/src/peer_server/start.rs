//! Opens the channel to the other hosts when the server starts, and renews its certificate.

use super::listener::PeerListener;
use crate::{
    app::App,
    peers::{Directory, OpenChannel, Peers},
};
use anteroom_cluster::peer::{Authority, IdentityFiles, PeerTls, new_peer_key};
use anteroom_controller::{
    api_error::chain,
    cluster_authority,
    unix_time::{format_rfc3339, now_unix_ms},
};
use anteroom_wire::HostId;
use anyhow::Context;
use axum::Router;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// What to do about a missing certificate.
const NO_CERTIFICATE: &str =
    "run `anteroom host invite` on another host and `anteroom host join` here, or set [cluster.tls]";

/// Opens the channel, if this host is one of several and has a certificate. The first host of a cluster makes the authority.
///
/// # Errors
/// The certificate cannot be used, or the address cannot be listened on.
pub(crate) async fn start(app: &App, router: Router, tasks: &TaskTracker, state_dir: &Path) -> anyhow::Result<()> {
    let config = app.config();
    let Some(own) = app.store.holder().map(|own| own.host).filter(|_| config.cluster.is_set()) else { return Ok(()) };
    let files = files(app, state_dir);
    if !files.exist() && !has_own_files(app) {
        issue_first(app, &files, &own).await?;
    }
    if !files.exist() {
        tracing::warn!(
            outcome = "no_host_certificate",
            "this host has no certificate, so other hosts do not talk to it: {NO_CERTIFICATE}"
        );
        app.cluster.report_certificate(Some(format!("it has none; {NO_CERTIFICATE}")));
        return Ok(());
    }
    let identity = files.read().context("the certificate of this host")?;
    anyhow::ensure!(
        identity.host == own,
        "the certificate in {} is for host {}, and this host is {own}",
        files.certificate.display(),
        identity.host
    );
    let listener = TcpListener::bind(config.cluster.peer_listen).await;
    let listener = listener.with_context(|| format!("cluster.peer_listen {}", config.cluster.peer_listen))?;
    let directory =
        Directory::open(app.store.clone(), Arc::clone(&app.cluster)).await.context("the hosts of the cluster")?;
    let peers = Peers::new(PeerTls::new(identity), directory.clone(), app.tasks.clone(), app.stop.clone());
    // Set once, here.
    let _ = app.peers.set(Arc::clone(&peers));
    app.cluster.open_channel(OpenChannel::new(&peers));
    tasks.spawn(PeerListener::new(app, router, Arc::clone(&peers), tasks.clone()).serve(listener));
    app.tasks.spawn(directory.run(app.stop.clone()));
    app.tasks.spawn(keep_certificate(app.clone(), peers, files));
    Ok(())
}

fn has_own_files(app: &App) -> bool {
    app.config().cluster.tls.certificate_file.is_some()
}

/// Those of the configuration, or of the state directory.
fn files(app: &App, state_dir: &Path) -> IdentityFiles {
    let tls = app.config().cluster.tls.clone();
    match (tls.certificate_file, tls.key_file, tls.ca_file) {
        (Some(certificate), Some(key), Some(authority)) => IdentityFiles { certificate, key, authority },
        _ => IdentityFiles::in_state_dir(state_dir),
    }
}

/// Makes the authority and the certificate of the first host. Does nothing if there is an authority: other hosts join.
async fn issue_first(app: &App, files: &IdentityFiles, own: &HostId) -> anyhow::Result<()> {
    if app.store.get_cluster_authority().await?.is_some() {
        return Ok(());
    }
    let Some(authority) = cluster_authority::create(&app.store, &app.vault).await? else { return Ok(()) };
    tracing::info!(outcome = "authority_created", authority = %authority.fingerprint(), "the authority of the cluster's certificates was made");
    issue(app, &authority, files, own)
}

fn issue(app: &App, authority: &Authority, files: &IdentityFiles, own: &HostId) -> anyhow::Result<()> {
    let key = new_peer_key()?;
    let chain = authority.issue(&key.request_pem, own, now_unix_ms(), app.limits.peers.certificate_lifetime_s)?;
    files.write(&key.key_pem, &chain, authority.certificate_pem())?;
    Ok(())
}

/// Renews the certificate after two thirds of its life; reads one that comes from files again, at SIGHUP at once. Runs until the server
/// stops.
async fn keep_certificate(app: App, peers: Arc<Peers>, files: IdentityFiles) {
    let pause = Duration::from_millis(app.limits.peers.certificate_look_ms);
    let next_look = async || {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = peers.certificate_look.notified() => {}
        }
    };
    while app.stop.run_until_cancelled(next_look()).await.is_some() {
        let fault = keep_once(&app, &peers, &files).await.err().map(|error| chain(&*error));
        if let Some(error) = &fault {
            tracing::error!(
                outcome = "host_certificate_not_renewed",
                error,
                "the certificate of this host was not renewed"
            );
        }
        app.cluster.report_certificate(fault);
    }
}

async fn keep_once(app: &App, peers: &Peers, files: &IdentityFiles) -> anyhow::Result<()> {
    let (tls, now_ms) = (peers.tls(), now_unix_ms());
    let own = tls.host();
    let is_old = now_ms >= tls.identity().renew_at_ms();
    if is_old && !has_own_files(app) && peers.directory.contains(own).await {
        let authority = cluster_authority::open(&app.store, &app.vault).await?;
        issue(app, &authority.context("there is no authority")?, files, own)?;
        tracing::info!(outcome = "host_certificate_renewed", "the certificate of this host was renewed");
    }
    let identity = files.read()?;
    anyhow::ensure!(identity.host == *own, "the certificate is for host {}", identity.host);
    anyhow::ensure!(
        now_ms < identity.ends_at_ms,
        "the certificate {} has expired at {}",
        files.certificate.display(),
        format_rfc3339(identity.ends_at_ms)
    );
    if identity.certificate() != tls.identity().certificate() {
        let ends_at = format_rfc3339(identity.ends_at_ms);
        tracing::info!(outcome = "host_certificate_reloaded", ends_at, "another certificate of this host is in use");
    }
    // The authority's certificates may be others.
    peers.replace_tls(PeerTls::new(identity));
    Ok(())
}
