//! The request of a machine that joins: the only one without a certificate.
//!
//! One line of JSON each way on a TLS connection: no HTTP, because there is nothing else to ask for.

use crate::{
    app::App,
    peers::{Peers, ReadAhead},
};
use anteroom_audit::{Action, Entry};
use anteroom_cluster::peer::{Invitation, InvitationSecret, JoinAnswer, JoinRequest};
use anteroom_controller::{
    api_error::{ApiError, chain},
    cluster_authority, random,
    unix_time::now_unix_ms,
};
use anteroom_wire::Problem;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

/// The most bytes of a request.
pub(crate) const REQUEST_BYTES_MAX: usize = 8 * 1_024;
/// Time for request and answer, milliseconds.
const JOIN_MS_MAX: u64 = 5_000;

/// Answers a machine that joins. One without a valid invitation gets nothing.
pub(super) async fn serve(app: &App, peers: &Arc<Peers>, mut stream: TlsStream<ReadAhead<TcpStream>>) {
    let joined = async {
        let request = read_request(&mut stream).await?;
        let answer = answer(app, peers, &request).await?;
        let mut line = Zeroizing::new(serde_json::to_vec(&answer).ok()?);
        line.push(b'\n');
        stream.write_all(&line).await.ok()?;
        stream.shutdown().await.ok()
    };
    let _ = tokio::time::timeout(Duration::from_millis(JOIN_MS_MAX), joined).await;
}

async fn read_request(stream: &mut TlsStream<ReadAhead<TcpStream>>) -> Option<JoinRequest> {
    let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX));
    while !line.ends_with(b"\n") {
        let read = (&mut *stream).take((REQUEST_BYTES_MAX - line.len()) as u64).read_buf(&mut *line).await.ok()?;
        if read == 0 {
            return None;
        }
    }
    serde_json::from_slice(&line).ok()
}

/// `None`: the invitation is not valid, or nothing can be issued.
async fn answer(app: &App, peers: &Arc<Peers>, request: &JoinRequest) -> Option<JoinAnswer> {
    let now_ms = now_unix_ms();
    let secret = InvitationSecret::parse(request.secret.expose()).ok()?;
    let lifetime_s = app.limits.peers.certificate_lifetime_s;
    let issued = async {
        let Some(authority) = cluster_authority::open(&app.store, &app.vault).await? else { return Ok(None) };
        let Some((id, ends_at_ms)) = secret.check(&authority, now_ms) else { return Ok(None) };
        // A name or id of another host must not use the invitation up.
        let rows = app.store.list_hosts().await?;
        if rows.iter().any(|row| row.id == request.host && row.left_at_ms.is_some()) {
            return Ok(None);
        }
        if !app.store.use_host_invitation(&id, ends_at_ms, now_ms).await? {
            return Ok(None);
        }
        let certificate = authority.issue(&request.request, &request.host, now_ms, lifetime_s)?;
        Ok::<_, cluster_authority::OpenAuthorityError>(Some((certificate, authority.certificate_pem().to_owned())))
    };
    match issued.await {
        Ok(Some((certificate, authority))) => {
            let entry = Entry::new(Action::HostJoin).with_detail("host", request.host.to_string());
            app.audit.record(entry).await;
            tracing::info!(outcome = "host_invited", host = %request.host, "a machine got the certificate of a host");
            let config = app.config();
            let hosts = peers.directory.list().into_iter().filter_map(|host| host.address);
            let hosts = hosts.map(|(host, port)| format!("https://{host}:{port}")).collect();
            Some(JoinAnswer { certificate, authority, cluster: config.cluster.name.clone().unwrap_or_default(), hosts })
        }
        Ok(None) => {
            tracing::warn!(
                outcome = "invitation_refused",
                "a machine was refused: its invitation is not valid, was used or has ended"
            );
            None
        }
        Err(error) => {
            tracing::error!(outcome = "host_not_invited", error = %chain(&error), "no certificate issued for a machine that joins");
            None
        }
    }
}

/// Makes an invitation to this host.
///
/// # Errors
/// Other hosts do not reach this one, there is no authority, or it cannot be opened.
pub(crate) async fn invite(app: &App) -> Result<Invitation, ApiError> {
    let peers = app.peers.get().ok_or_else(|| ApiError::new(Problem::NotClustered, "this host has no certificate"))?;
    peers.directory.look().await?;
    let address = peers.directory.get(peers.tls().host()).and_then(|own| own.address);
    let (host, port) =
        address.ok_or_else(|| ApiError::new(Problem::NotClustered, "other hosts do not reach this one yet"))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let unusable = |error: cluster_authority::OpenAuthorityError| ApiError::new(Problem::Internal, chain(&error));
    let authority = cluster_authority::open(&app.store, &app.vault).await.map_err(unusable)?;
    let authority = authority.ok_or_else(|| {
        ApiError::new(Problem::NotClustered, "the certificates of hosts come from files ([cluster.tls])")
    })?;
    Ok(Invitation::new(&authority, random::random_bytes(), now_unix_ms(), format!("https://{host}:{port}")))
}
