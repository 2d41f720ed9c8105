//! Why a host cannot join its cluster.

use anteroom_store::StoreError;
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
    /// The database.
    #[error("the host cannot join the cluster")]
    Store(#[from] StoreError),
    /// The hosts of a cluster share a database; a file is not shared.
    #[error("{0}")]
    Settings(String),
}
