//! Where a connection comes from.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use std::net::SocketAddr;
use tokio::net::{TcpListener, UnixListener};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address (a reverse proxy's, perhaps).
    Tcp(SocketAddr),
    /// Over the Unix socket, as this user. `None`: the kernel did not say.
    Local {
        /// The user id.
        uid: Option<u32>,
    },
}

impl Peer {
    /// Whether the kernel vouches that this is the user the server runs as, or root.
    pub fn is_operator(self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Local { uid } => uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw()),
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::Local { uid: stream.io().peer_cred().ok().map(|cred| cred.uid()) }
    }
}
