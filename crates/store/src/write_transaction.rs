//! Write transactions. Each is reported to the observer, and marks the connection as broken if it does not end properly.

use crate::{
    StoreError,
    connection::Connection,
    error,
    error::query_error,
    write_observer::{ObservedWrite, WriteObserver, WriteOutcome, WriteReport},
};
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// A write transaction. Dropping it rolls it back. It holds the only writing connection: await nothing but the database.
pub(crate) struct WriteTransaction {
    // Fields are dropped in this order: the transaction is rolled back before its failure is reported.
    transaction: Connection,
    health: ConnectionHealth,
    report: WriteReport,
}

/// Marks the connection as broken unless the write ended properly: a connection with a half-finished write is not used again.
struct ConnectionHealth {
    is_broken: Arc<AtomicBool>,
    ended_properly: bool,
}

impl Drop for ConnectionHealth {
    fn drop(&mut self) {
        if !self.ended_properly {
            self.is_broken.store(true, Relaxed);
        }
    }
}

impl WriteTransaction {
    /// Begins when the connection and the lock are available.
    pub(crate) async fn begin(
        begin: impl Future<Output = Result<Connection, sqlx::Error>>,
        is_broken: Arc<AtomicBool>,
        observer: Option<&Arc<dyn WriteObserver>>,
        write: ObservedWrite,
        operation: &'static str,
    ) -> Result<Self, StoreError> {
        let report = WriteReport::begin(observer, write);
        // An error because of a lock does not mean that the connection is broken.
        let mut health = ConnectionHealth { is_broken, ended_properly: false };
        let transaction = begin.await.map_err(|source| {
            health.ended_properly = error::is_lock(&source);
            query_error(operation)(source)
        })?;
        Ok(Self { transaction, health, report })
    }

    /// Commits the transaction.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { transaction, mut health, mut report } = self;
        transaction.commit().await?;
        health.ended_properly = true;
        report.set_outcome(WriteOutcome::Written);
        Ok(())
    }

    /// The transaction is going to be dropped, which rolls it back; its connection can be used again.
    pub(crate) fn end_by_rollback(&mut self) {
        self.health.ended_properly = true;
        self.report.set_outcome(WriteOutcome::Unchanged);
    }

    /// Ends the transaction, which was refused, without a change.
    pub(crate) fn finish_refused(mut self) {
        self.end_by_rollback();
        self.report.set_outcome(WriteOutcome::Refused);
    }

    /// Ends the transaction without a change.
    pub(crate) fn finish_unchanged(mut self) {
        self.end_by_rollback();
    }
}

impl Deref for WriteTransaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}
