//! MACs of rows: a row that was changed or inserted by anything but this program is not accepted.
//!
//! Each covered table has a column `mac`: a MAC of all columns that decide something ([`tables`]), by a key that is derived from the key
//! ring. The program reads a row and its MAC together; before it changes a row it requires that the MAC is valid, so that it never makes
//! one for a row that others have changed. Timelines have a second row that counts their entries ([`crate::timeline`]).
//!
//! A store without keys ([`Store::use_row_macs`](crate::Store::use_row_macs)) writes no MACs and accepts all rows: for programs that only
//! read, and until the rows of an older database got their MACs ([`Store::add_row_macs`](crate::Store::add_row_macs)).

pub(crate) mod tables;

use crate::{RowFault, StoreError, connection::Connection};
use anteroom_vault::{KeyRing, RowContent, RowMacError};
use parking_lot::Mutex;
use sqlx::any::AnyRow;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};
use tables::{Key, Table};
use tokio::sync::Notify;

/// Rows whose alarm is kept in memory; the log has all.
const TAMPERED_MAX: usize = 100;

/// A row that was changed outside of this program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TamperedRow {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
}

/// Makes and checks the MACs of a store. Clones share the keys and the alarms.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowMacs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ring: OnceLock<KeyRing>,
    alarms: Mutex<Alarms>,
    raised: Notify,
}

/// The rows that are known to be tampered with.
#[derive(Debug, Default)]
struct Alarms {
    current: BTreeMap<TamperedRow, RowFault>,
    /// Those that were not taken yet by [`Store::take_tampered_rows`](crate::Store::take_tampered_rows).
    new: Vec<TamperedRow>,
}

impl RowMacs {
    pub(crate) fn ring(&self) -> Option<&KeyRing> {
        self.0.ring.get()
    }

    /// Uses these keys. Keys that are in use stay: they are the same ring.
    pub(crate) fn set_ring(&self, ring: KeyRing) {
        let _ = self.0.ring.set(ring);
    }

    /// The MAC of a row that is about to be written; `None`: the store has no keys.
    pub(crate) fn mac(&self, content: &RowContent) -> Option<String> {
        self.ring().map(|ring| ring.row_mac(content))
    }

    /// Requires that the row has a valid MAC. It was read with all covered columns and its MAC.
    ///
    /// # Errors
    /// It has not; the alarm is raised.
    pub(crate) fn verify(&self, table: &'static Table, row: &AnyRow) -> Result<(), StoreError> {
        self.check(table, row)?.map_err(|why| self.raise_alarm(table, table.key_of(row), why.into()))
    }

    /// As [`RowMacs::verify`], without the alarm.
    fn check(&self, table: &Table, row: &AnyRow) -> Result<Result<(), RowMacError>, StoreError> {
        let Some(ring) = self.ring() else { return Ok(Ok(())) };
        let (content, mac) = table.content_of(row)?;
        Ok(ring.check_row_mac(&content, mac.as_deref()).map(drop))
    }

    /// Raises the alarm about a row, once: a line in the log, and the health of the server. Returns the error for its reader.
    pub(crate) fn raise_alarm(&self, table: &Table, row: String, why: RowFault) -> StoreError {
        let tampered = TamperedRow { table: table.name, row };
        let error = StoreError::TamperedRow { table: table.name, row: tampered.row.clone(), why };
        let mut alarms = self.0.alarms.lock();
        if alarms.current.len() < TAMPERED_MAX && alarms.current.insert(tampered.clone(), why).is_none() {
            tracing::error!(outcome = "row_tampered", table = table.name, row = tampered.row, %why, "row of the database changed outside of this server");
            alarms.new.push(tampered);
            self.0.raised.notify_one();
        }
        error
    }

    /// Reads a row with this key in the caller's transaction and requires that its MAC is valid. `false`: there is no such row.
    ///
    /// # Errors
    /// It was changed outside of this program, or the database cannot be read.
    pub(crate) async fn require_valid(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        key: Key<'_>,
    ) -> Result<bool, StoreError> {
        match table.fetch(connection, key).await? {
            Some(row) => self.verify(table, &row).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether the row exists and has a valid MAC; raises the alarm about one that has not.
    pub(crate) async fn is_valid(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        key: Key<'_>,
    ) -> Result<bool, StoreError> {
        match self.require_valid(connection, table, key).await {
            Err(StoreError::TamperedRow { .. }) => Ok(false),
            other => other,
        }
    }

    /// Gives a row its MAC, which this transaction has inserted, or has changed after [`RowMacs::require_valid`].
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) async fn renew(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        key: Key<'_>,
    ) -> Result<(), StoreError> {
        if self.ring().is_none() {
            return Ok(());
        }
        let Some(row) = table.fetch(&mut *connection, key).await? else { return Ok(()) };
        self.renew_row(connection, table, &row).await
    }

    /// As [`RowMacs::renew`], of a row that this transaction has read with all covered columns since it has changed it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) async fn renew_row(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        row: &AnyRow,
    ) -> Result<(), StoreError> {
        let Some(ring) = self.ring() else { return Ok(()) };
        let (content, _) = table.content_of(row)?;
        table.write_mac(connection, row, &ring.row_mac(&content)).await
    }

    /// The rows whose alarm is raised.
    pub(crate) fn tampered_rows(&self) -> Vec<TamperedRow> {
        self.0.alarms.lock().current.keys().cloned().collect()
    }

    /// The alarms that were raised since the last call.
    pub(crate) fn take_new_alarms(&self) -> Vec<TamperedRow> {
        std::mem::take(&mut self.0.alarms.lock().new)
    }

    /// Waits until an alarm is raised.
    pub(crate) async fn wait_alarm(&self) {
        self.0.raised.notified().await;
    }

    /// Forgets the alarms of all other rows.
    pub(crate) fn retain_alarms(&self, tampered: &BTreeSet<TamperedRow>) {
        self.0.alarms.lock().current.retain(|row, _| tampered.contains(row));
    }
}
