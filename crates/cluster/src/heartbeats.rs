//! Where heartbeats are written and read: etcd, or the database. A register keeps the newest heartbeat of each host, and nothing in it
//! expires: other hosts time the silence on their own clocks ([`Observer`](crate::Observer)).

mod database;
mod etcd;
mod etcd_member;

pub use database::DatabaseRegister;
pub use etcd::{EtcdRegister, EtcdSettings};
pub use etcd_member::ANSWER_MS_MAX as ETCD_ANSWER_MS_MAX;

use crate::{Heartbeat, Observed};

/// What a register answers to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is the newest one of its host.
    Acknowledged,
    /// This process may not write for the host any more: another process does, or the host was fenced or removed.
    Replaced,
}

/// Why a register was not written or read. Whether a heartbeat was written is then unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegisterError(pub String);

/// A register.
#[derive(Debug)]
pub enum Register {
    /// In etcd.
    Etcd(EtcdRegister),
    /// In the database.
    Database(DatabaseRegister),
}

impl Register {
    /// Its name in logs and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Database(_) => "database",
        }
    }

    /// Writes a heartbeat.
    ///
    /// # Errors
    /// The register cannot be written.
    pub async fn write(&self, heartbeat: &Heartbeat) -> Result<Written, RegisterError> {
        match self {
            Self::Etcd(register) => register.write(heartbeat).await,
            Self::Database(register) => register.write(heartbeat).await,
        }
    }

    /// The newest heartbeats of all hosts, as they are now: a linearizable read.
    ///
    /// # Errors
    /// The register cannot be read.
    pub async fn read(&self) -> Result<Vec<Observed>, RegisterError> {
        match self {
            Self::Etcd(register) => register.read().await,
            Self::Database(register) => register.read().await,
        }
    }
}
