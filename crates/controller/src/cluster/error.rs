//! Why a host cannot join its cluster.

use anteroom_store::StoreError;
use anteroom_wire::HostId;
use std::io;

/// Why this host cannot join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A file of this host.
    #[error("{what} cannot be read or written")]
    File {
        /// The file.
        what: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The settings of etcd.
    #[error("cluster.etcd.{0}")]
    Etcd(String),
    /// An operator removed this host.
    #[error(
        "this host ({0}) was removed from the cluster: to use the machine as a new host, delete `host.json` and `cluster/` \
         in the state directory, then join with a new invitation (`anteroom host join`)"
    )]
    Removed(HostId),
    /// The database.
    #[error("the host cannot join the cluster")]
    Store(#[source] StoreError),
    /// The hosts of a cluster share a database; a file is not shared.
    #[error("{0}")]
    Settings(String),
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        if let StoreError::HostFenced(host) = error {
            // One that was fenced joins with the next incarnation.
            return Self::Removed(host);
        }
        Self::Store(error)
    }
}
