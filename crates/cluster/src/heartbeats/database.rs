//! Heartbeats in the database, with its clock.

use super::{RegisterError, Written};
use crate::{Heartbeat, Mark, Observed};
use anteroom_store::{Holder, Store, StoreError};
use anteroom_wire::chain;

/// Writes heartbeats into the rows of the hosts, which must have joined.
#[derive(Debug)]
pub struct DatabaseRegister {
    store: Store,
}

impl DatabaseRegister {
    /// A register in this database.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// See [`Register::write`](super::Register::write).
    pub(super) async fn write(&self, heartbeat: &Heartbeat) -> Result<Written, RegisterError> {
        let holder = Holder { host: heartbeat.host.clone(), incarnation: heartbeat.incarnation };
        let report = serde_json::to_string(heartbeat).map_err(|error| RegisterError(error.to_string()))?;
        let may_act = self.store.record_heartbeat(&holder, &report).await.map_err(failed)?;
        Ok(if may_act { Written::Acknowledged } else { Written::Replaced })
    }

    /// See [`Register::read`](super::Register::read). Hosts that have only joined are left out.
    pub(super) async fn read(&self) -> Result<Vec<Observed>, RegisterError> {
        let rows = self.store.list_hosts().await.map_err(failed)?;
        let observed = rows.into_iter().filter_map(|row| {
            // A newer version of this program may report what this one does not understand.
            let heartbeat = serde_json::from_str(row.report.as_deref()?).ok()?;
            Some(Observed { heartbeat, mark: Mark(row.heartbeats) })
        });
        Ok(observed.collect())
    }
}

fn failed(error: StoreError) -> RegisterError {
    RegisterError(chain(&error))
}
