//! A machine joins a cluster: it makes its key and gets its certificate.

use super::directory::parse_peer_url;
use anteroom_cluster::peer::{IdentityFiles, Invitation, JoinAnswer, JoinRequest, JoinTls, host_of, new_peer_key};
use anteroom_wire::{HostId, Secret};
use anyhow::{Context, ensure};
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// Time for everything, milliseconds.
const JOIN_MS_MAX: u64 = 15_000;
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;

/// A machine that has joined.
#[derive(Debug)]
pub struct JoinedCluster {
    /// The name of the cluster.
    pub cluster: String,
    /// Where its hosts are reached.
    pub hosts: Vec<String>,
}

/// Joins with this invitation, as this host: writes key and certificate into the state directory.
///
/// # Errors
/// The invitation is none, its host cannot be reached or is another's, or it refuses; or the files cannot be written.
pub async fn join_cluster(invitation: &str, host: &HostId, state_dir: &Path) -> anyhow::Result<JoinedCluster> {
    let invitation = Invitation::parse(invitation)?;
    let key = new_peer_key()?;
    let request = JoinRequest {
        secret: Secret::new(invitation.secret.to_text().to_string()),
        host: host.clone(),
        request: key.request_pem.clone(),
    };
    let asked = tokio::time::timeout(Duration::from_millis(JOIN_MS_MAX), ask(&invitation, &request)).await;
    let answer = asked.with_context(|| format!("{} does not answer", invitation.peer_url))??;
    let certificate = CertificateDer::from_pem_slice(answer.certificate.as_bytes()).context("the certificate")?;
    ensure!(host_of(&certificate).as_ref() == Some(host), "the certificate is for another host");
    IdentityFiles::in_state_dir(state_dir).write(&key.key_pem, &answer.certificate, &answer.authority)?;
    Ok(JoinedCluster { cluster: answer.cluster, hosts: answer.hosts })
}

async fn ask(invitation: &Invitation, request: &JoinRequest) -> anyhow::Result<JoinAnswer> {
    let url = &invitation.peer_url;
    let (name, port) = parse_peer_url(url).with_context(|| format!("{url} is not the address of a host"))?;
    let stream = TcpStream::connect((name.as_str(), port)).await.with_context(|| format!("{url} cannot be reached"))?;
    let tls = TlsConnector::from(JoinTls::connect(&invitation.authority)?);
    let connected = tls.connect(ServerName::try_from("host.invalid")?, stream).await;
    let mut stream = connected.with_context(|| format!("{url} is not a host of the cluster that invited"))?;
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    // A host that closes without a closing message has answered nothing.
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    ensure!(
        !answer.is_empty(),
        "{url} refused: an invitation is valid for 15 minutes and once, so ask for another one with `anteroom host invite`"
    );
    serde_json::from_slice(&answer).context("the answer is not well formed")
}
