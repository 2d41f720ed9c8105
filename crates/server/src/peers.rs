//! The other hosts of the cluster: requests that name a session go to the host that holds it.
//!
//! ```text
//!  request ─▶ http/route: whose session? ─ mine ─▶ handler
//!               └─ another host's ─▶ Link (HTTP/2), or a connection of its own (WebSocket) ─▶ its PeerListener ─▶ its router
//! ```
//!
//! Hosts speak TLS 1.3 with certificates of the cluster's authority (`anteroom_cluster::peer`). A certificate counts only while its host
//! is in the database. The owner checks the caller of each request; the host that passes it on reports where it came from.

mod channel;
mod directory;
mod ending_stream;
mod frames;
mod handshake;
mod head;
mod join_client;
mod link;
mod read_ahead;
mod request;
mod socket;
mod status;
mod unreachable;

pub(crate) use channel::OpenChannel;
pub(crate) use directory::Directory;
pub(crate) use ending_stream::{EndingStream, certificate_end_ms};
pub(crate) use handshake::Handshake;
pub(crate) use head::{FromHost, NOT_OWNER, take_client};
pub use join_client::{JoinedCluster, join_cluster};
pub(crate) use link::PING_PATH;
pub(crate) use read_ahead::ReadAhead;
pub(crate) use unreachable::Unreachable;

use crate::{addresses::Addresses, peer::Peer};
use anteroom_cluster::peer::PeerTls;
use anteroom_wire::{HostId, SessionId};
use axum::body::Body;
use bytes::Bytes;
use head::ForwardedHead;
use http::{Method, Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use link::{Link, LinkGuard};
use parking_lot::{Mutex, RwLock};
use socket::Reason;
use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::Notify};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The path at which a host is asked to take a session that waits.
pub(crate) const TAKE_PATH: &str = "/peer/take";
/// The path at which a host is asked for views of its sessions.
pub(crate) const VIEWS_PATH: &str = "/peer/views";
/// The path at which a host is asked for its part of an erasure.
pub(crate) const ERASE_PATH: &str = "/peer/erase";
/// A host that answers nothing for so long is reported as unreachable, milliseconds.
pub(crate) const SILENT_MS_MAX: u64 = 3_000;
/// How long a session's host is remembered, milliseconds.
const OWNER_MS_MAX: u64 = 10_000;
/// Sessions whose host is remembered.
pub(crate) const OWNERS_MAX: usize = 10_000;
/// Time to connect to another host, the handshake included, milliseconds.
const CONNECT_MS_MAX: u64 = 1_000;
/// How long the kernel repeats unacknowledged data to another host, milliseconds.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;

/// Bytes that a connection of hosts encrypts before it waits: more than a message to a viewer, so that one system call sends it.
pub(crate) const TLS_BUFFER_BYTES: usize = 128 * 1_024;

/// The channel to the other hosts.
pub(crate) struct Peers {
    /// The hosts of the cluster.
    pub(crate) directory: Directory,
    /// Asks for a look at the files of the certificate.
    pub(crate) certificate_look: Notify,
    tls: RwLock<PeerTls>,
    links: Mutex<HashMap<HostId, Arc<Link>>>,
    owners: Mutex<HashMap<SessionId, (HostId, Instant)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Peers {
    /// The channel of the host that this certificate names.
    pub(crate) fn new(tls: PeerTls, directory: Directory, tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            directory,
            certificate_look: Notify::new(),
            tls: RwLock::new(tls),
            links: Mutex::default(),
            owners: Mutex::default(),
            tasks,
            stop,
        })
    }

    /// The present certificate.
    pub(crate) fn tls(&self) -> PeerTls {
        self.tls.read().clone()
    }

    /// Uses this certificate for new connections.
    pub(crate) fn replace_tls(&self, tls: PeerTls) {
        *self.tls.write() = tls;
    }

    /// The host that held the session a moment ago; `None`: the database knows.
    pub(crate) fn remembered_owner(&self, session: &SessionId) -> Option<HostId> {
        let owners = self.owners.lock();
        let (host, since) = owners.get(session)?;
        (since.elapsed() < Duration::from_millis(OWNER_MS_MAX)).then(|| host.clone())
    }

    /// Remembers which host holds the session.
    pub(crate) fn remember_owner(&self, session: &SessionId, host: HostId) {
        let mut owners = self.owners.lock();
        if owners.len() >= OWNERS_MAX {
            owners.retain(|_, (_, since)| since.elapsed() < Duration::from_millis(OWNER_MS_MAX));
        }
        if owners.len() < OWNERS_MAX {
            owners.insert(session.clone(), (host, Instant::now()));
        }
    }

    /// Forgets which host holds the session.
    pub(crate) fn forget_owner(&self, session: &SessionId) {
        self.owners.lock().remove(session);
    }

    /// The link to a host, for as long as the guard exists.
    fn link(self: &Arc<Self>, host: &HostId) -> LinkGuard {
        let mut links = self.links.lock();
        let present = links.get(host).map(Arc::clone);
        let link = present.unwrap_or_else(|| {
            let new = Link::new(host.clone());
            links.insert(host.clone(), Arc::clone(&new));
            self.tasks.spawn(link::watch(Arc::clone(self), Arc::clone(&new)));
            new
        });
        LinkGuard::new(link)
    }

    /// Passes a request on; a WebSocket's handshake on a connection of its own. `None`: its head cannot be passed on. `reason` says what a
    /// viewer is sent when its host becomes silent later.
    ///
    /// # Errors
    /// The host does not answer.
    pub(crate) async fn send(
        self: &Arc<Self>,
        host: &HostId,
        parts: &mut Parts,
        body: &Bytes,
        client: Peer,
        addresses: &Addresses,
        reason: Reason,
    ) -> Result<Option<Response<Body>>, Unreachable> {
        let handshake = Handshake::of(parts);
        if parts.method == Method::CONNECT && handshake.is_none() {
            return Ok(None);
        }
        let Some(head) = ForwardedHead::new(parts, client, addresses, handshake) else { return Ok(None) };
        match parts.extensions.get::<OnUpgrade>().cloned().zip(handshake) {
            Some((upgrade, handshake)) => {
                let answered = self.pass_on_socket(host, &head, upgrade, reason).await;
                answered.map(|answer| Some(handshake.answer(answer)))
            }
            None => self.pass_on(host, &head, body).await.map(Some),
        }
    }

    /// Connects to the host; `alpn` is the protocol on the connection.
    async fn connect(&self, host: &HostId, alpn: &[u8]) -> io::Result<EndingStream<TlsStream<ReadAhead<TcpStream>>>> {
        let address = self.directory.get(host).and_then(|host| host.address);
        let (name, port) = address.ok_or_else(|| io::Error::other("the host has no address for other hosts"))?;
        let config = self.tls.read().connect_to(host, alpn).map_err(io::Error::other)?;
        let connect = async {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX)?;
            // The certificate names the host's id, which the configuration expects.
            let unused = ServerName::try_from("host.invalid").map_err(io::Error::other)?;
            let mut stream = TlsConnector::from(config).connect(unused, ReadAhead::new(stream)).await?;
            stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
            Ok::<_, io::Error>(stream)
        };
        let stream = tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), connect).await??;
        let ends_at_ms = certificate_end_ms(stream.get_ref().1).ok_or(io::ErrorKind::InvalidData)?;
        Ok(EndingStream::of_member(stream, host.clone(), ends_at_ms, self.directory.clone(), &self.tasks))
    }
}

/// What docs/limits.md lists.
#[cfg(test)]
pub(crate) mod limits {
    pub(crate) use super::{
        OWNERS_MAX, SILENT_MS_MAX,
        status::{ANSWER_MS_MAX, ERASE_MS_MAX},
    };
}
