//! Which host of a cluster holds a session: only its holder changes it.
//!
//! The holder of a store ([`Store::hold_as`]) is a condition of every write to an active session. Without one there is no cluster, and no
//! write has a further condition.

use crate::{SessionRow, Store, StoreError, row_reader::RowReader, write_transaction::WriteTransaction};
use anteroom_wire::{HostId, SessionId};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use tokio::sync::Notify;

/// Refused sessions that are remembered until they are taken.
const REFUSED_MAX: usize = 10_000;

/// A host, and how often it has joined the cluster after it was fenced. A host that was fenced holds nothing until it joins again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The host.
    pub host: HostId,
    /// Its incarnation: 1 for the first.
    pub incarnation: u64,
}

impl Holder {
    /// The holder in the columns of a session.
    pub(crate) fn decode(reader: &RowReader<'_>) -> Result<Option<Self>, StoreError> {
        let (host, incarnation) = (reader.parsed_or_null("host_id")?, reader.number_or_null("host_incarnation")?);
        match (host, incarnation) {
            (Some(host), Some(incarnation)) => Ok(Some(Self { host, incarnation })),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(reader.corrupt_row_error("a host without an incarnation")),
        }
    }
}

/// As whom a store writes, and which of its writes were refused.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    holder: RwLock<Option<Holder>>,
    refused: Mutex<BTreeSet<SessionId>>,
    refusal: Notify,
}

impl Store {
    /// Writes as this host from now on; `None`: without a cluster. Supervisors of a former incarnation must have ended.
    pub fn hold_as(&self, holder: Option<Holder>) {
        *self.holding().holder.write() = holder;
    }

    /// As whom this store writes; `None`: there is no cluster.
    pub fn holder(&self) -> Option<Holder> {
        self.holding().holder.read().clone()
    }

    /// Whether this host may change the active session.
    pub(crate) fn may_write(&self, session: &SessionRow) -> bool {
        self.holder().is_none_or(|holder| session.holder.as_ref() == Some(&holder))
    }

    /// Ends a write of a host that does not hold the session.
    pub(crate) fn refuse(&self, transaction: WriteTransaction, session: &SessionId) -> StoreError {
        transaction.finish_refused();
        let mut refused = self.holding().refused.lock();
        if refused.len() < REFUSED_MAX {
            refused.insert(session.clone());
        }
        self.holding().refusal.notify_one();
        tracing::warn!(outcome = "write_refused", session = %session, "write refused: this host does not hold the session");
        StoreError::NotHolder(session.clone())
    }

    /// Waits for the next writes that are refused with [`StoreError::NotHolder`]. Returns their sessions: this host must end what it still
    /// does for them. Cancel-safe; for one caller.
    pub async fn next_refused_sessions(&self) -> BTreeSet<SessionId> {
        loop {
            let refused = std::mem::take(&mut *self.holding().refused.lock());
            if !refused.is_empty() {
                return refused;
            }
            self.holding().refusal.notified().await;
        }
    }
}
