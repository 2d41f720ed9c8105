//! Where a connection comes from, and whether a process may use the operator's socket.

mod client_address;

pub use client_address::{ClientAddress, TrustedProxies};

use anteroom_controller::log::line_budget::SECURITY_TARGET;
use anteroom_machine::{Machines, ProcessId};
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, geteuid, pidfd_open},
};
use std::{
    fs, io, mem,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::PathBuf,
};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Attempts to read the ancestors of a process twice with the same result.
const ANCESTRY_ATTEMPTS_MAX: usize = 5;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address (a reverse proxy's, perhaps).
    Tcp(SocketAddr),
    /// Over the operator's socket, as this user.
    Local {
        /// The user id.
        uid: u32,
    },
    /// Over the operator's socket, from a process that may not use it.
    Refused(PeerRefusal),
}

/// Why a process may not use the operator's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// The kernel does not identify it.
    #[error("the kernel does not identify the process: it may run in another container")]
    Unidentified,
    /// It ended before it could be checked, or its ancestors kept changing.
    #[error("process {pid} ended while it was checked")]
    Ended {
        /// Its id.
        pid: u32,
    },
    /// It belongs to a machine.
    #[error("process {pid} belongs to a machine: its ancestor {ancestor} is a keeper or this server")]
    MachineProcess {
        /// Its id.
        pid: u32,
        /// The keeper, or this server.
        ancestor: u32,
    },
    /// It runs in another namespace than this server.
    #[error("process {pid} has another {namespace} namespace than this server")]
    OtherNamespace {
        /// Its id.
        pid: u32,
        /// `pid` or `user`.
        namespace: &'static str,
    },
    /// Its namespaces cannot be compared with those of this server.
    #[error("the {namespace} namespace of process {pid} cannot be read")]
    UnreadableNamespace {
        /// Its id.
        pid: u32,
        /// `pid` or `user`.
        namespace: &'static str,
    },
}

impl Peer {
    /// Whether the kernel confirms that this is the user the server runs as, or root.
    pub fn is_operator(self) -> bool {
        match self {
            Self::Tcp(_) | Self::Refused(_) => false,
            Self::Local { uid } => uid == 0 || uid == geteuid().as_raw(),
        }
    }
}

/// The operator's socket. It refuses processes that a program could start which has broken out of a machine.
pub(crate) struct OperatorSocket {
    /// The socket.
    pub(crate) listener: UnixListener,
    /// The machines, whose keepers' descendants are refused.
    pub(crate) machines: Machines,
}

impl Listener for OperatorSocket {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        // Nothing that this server starts uses its operator's socket, whether its keeper has reported yet or not. As PID 1 of a container
        // the server is also the parent of other programs' orphans.
        let server = ProcessId::from_pid(std::process::id()).filter(|server| server.pid != 1);
        let ancestors: Vec<_> = self.machines.keepers().into_iter().chain(server).collect();
        let peer = check_peer(&stream, &ancestors).unwrap_or_else(|refusal| {
            tracing::warn!(target: SECURITY_TARGET, outcome = "peer_refused", reason = %refusal, "process refused at the operator's socket");
            Peer::Refused(refusal)
        });
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::Local { uid: geteuid().as_raw() })
    }
}

/// Identifies the process at the other end of a Unix socket and checks that it may use it. `forbidden_ancestors`: the processes whose
/// descendants may not.
fn check_peer(stream: &UnixStream, forbidden_ancestors: &[ProcessId]) -> Result<Peer, PeerRefusal> {
    let user = stream.peer_cred().map_err(|_| PeerRefusal::Unidentified)?;
    let uid = user.uid();
    // Root does not need this socket to use the server. To an ordinary user's server the kernel does not show root's namespaces.
    if uid == 0 && !geteuid().is_root() {
        return Ok(Peer::Local { uid });
    }
    // A process of another PID namespace has no id in this one.
    let process = user.pid().and_then(Pid::from_raw).ok_or(PeerRefusal::Unidentified)?;
    let pid = process.as_raw_nonzero().get().cast_unsigned();
    let pidfd = peer_pidfd(stream.as_fd(), process).map_err(|_| PeerRefusal::Ended { pid })?;
    check_ancestors(pid, forbidden_ancestors)?;
    for namespace in ["pid", "user"] {
        let own = read_namespace("self", namespace);
        match (own, read_namespace(&pid.to_string(), namespace)) {
            (Ok(own), Ok(found)) if own == found => {}
            (Ok(_), Ok(_)) => return Err(PeerRefusal::OtherNamespace { pid, namespace }),
            (Err(_), _) | (_, Err(_)) => return Err(PeerRefusal::UnreadableNamespace { pid, namespace }),
        }
    }
    // As long as the process exists, its id was not given to another one: everything above was about this process.
    if has_ended(&pidfd) {
        return Err(PeerRefusal::Ended { pid });
    }
    Ok(Peer::Local { uid })
}

/// A descriptor of the process that connected the other end of the socket. Before Linux 6.5 it is of the process that has its id now.
fn peer_pidfd(socket: BorrowedFd<'_>, pid: Pid) -> io::Result<OwnedFd> {
    let mut number: libc::c_int = -1;
    let mut bytes = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes to `number`.
    #[allow(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut number).cast(),
            &raw mut bytes,
        )
    };
    if result == 0 {
        // SAFETY: the kernel has just made this descriptor for this process.
        #[allow(unsafe_code, reason = "owns a descriptor that the kernel has made")]
        return Ok(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(pidfd_open(pid, PidfdFlags::empty())?) } else { Err(error) }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut files = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
}

/// Checks that neither the process nor an ancestor of it is one of these.
fn check_ancestors(pid: u32, forbidden: &[ProcessId]) -> Result<(), PeerRefusal> {
    // An orphan gets another parent while the ancestors are read, so they are read until two results agree.
    let mut earlier = None;
    for _ in 0..ANCESTRY_ATTEMPTS_MAX {
        let found = ProcessId::ancestry(pid).ok_or(PeerRefusal::Ended { pid })?;
        if let Some(ancestor) = found.iter().find(|process| forbidden.contains(process)) {
            return Err(PeerRefusal::MachineProcess { pid, ancestor: ancestor.pid });
        }
        if earlier.as_ref() == Some(&found) {
            return Ok(());
        }
        earlier = Some(found);
    }
    Err(PeerRefusal::Ended { pid })
}

/// The namespace of a process, as the kernel names it.
fn read_namespace(process: &str, namespace: &str) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{namespace}"))
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, OperatorSocket>> for Peer {
    fn connect_info(stream: IncomingStream<'_, OperatorSocket>) -> Self {
        *stream.remote_addr()
    }
}

#[cfg(test)]
mod tests;
