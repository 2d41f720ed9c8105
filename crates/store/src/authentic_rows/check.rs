//! The check of all rows, which also gives the rows of older keys a MAC by the primary key.

use crate::{
    Store, StoreError, TamperedRow, WriteKind,
    connection::Connection,
    error::query_error,
    row_macs::tables::{self, Key, Table},
};
use anteroom_vault::{KeyId, RowMacError};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::collections::BTreeSet;

/// Rows that are read or written at once, so that other writes take turns with them.
const BATCH: u32 = 200;

/// The result of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckedRows {
    /// Rows with a valid MAC.
    pub valid: u64,
    /// Of these, rows that got a MAC by the primary key in place of one by an older key.
    pub renewed: u64,
    /// Rows without a valid MAC.
    pub tampered: u64,
}

/// What was found about one row.
enum Finding {
    Valid,
    /// Valid by an older key.
    Older,
    Tampered(RowMacError),
}

impl Store {
    /// Checks all rows that have MACs, and renews those that an older key has made. Forgets the alarms of rows that are valid again.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn check_rows(&self) -> Result<CheckedRows, StoreError> {
        let mut checked = CheckedRows::default();
        if self.row_macs().ring().is_none() {
            return Ok(checked);
        }
        let mut tampered = BTreeSet::new();
        for table in tables::ALL {
            let mut after: (String, Option<i64>) = (String::new(), None);
            loop {
                let rows = self.read_batch(table, &after).await?;
                let Some(last) = rows.last() else { break };
                after = table.key_parts(last);
                self.check_batch(table, &rows, &mut checked, &mut tampered).await?;
            }
        }
        tampered.extend(self.check_timeline_heads().await?);
        checked.tampered = tampered.len() as u64;
        self.row_macs().retain_alarms(&tampered);
        Ok(checked)
    }

    async fn read_batch(&self, table: &Table, after: &(String, Option<i64>)) -> Result<Vec<AnyRow>, StoreError> {
        let text = table.select(&table.where_after(BATCH));
        let query = sqlx::query(AssertSqlSafe(text)).bind(after.0.clone());
        let query = table.number_of_key(after.1).into_iter().fold(query, |query, number| query.bind(number));
        query.fetch_all(self.read_pool()).await.map_err(query_error("check rows"))
    }

    async fn check_batch(
        &self,
        table: &'static Table,
        rows: &[AnyRow],
        checked: &mut CheckedRows,
        tampered: &mut BTreeSet<TamperedRow>,
    ) -> Result<(), StoreError> {
        let mut to_renew = Vec::new();
        for row in rows {
            match self.find(table, row)? {
                Finding::Valid => checked.valid += 1,
                Finding::Older | Finding::Tampered(_) => to_renew.push(table.key_parts(row)),
            }
        }
        if to_renew.is_empty() {
            return Ok(());
        }
        // Again in a transaction: the rows may have changed.
        let mut transaction = self.begin_write(WriteKind::RenewMacs, "renew the MACs of rows").await?;
        let mut changed = false;
        for (text, number) in &to_renew {
            let Some(row) = table.fetch(&mut transaction, Key { text, number: *number }).await? else { continue };
            changed |= self.renew_row(&mut transaction, table, &row, (checked, tampered)).await?;
        }
        if changed {
            transaction.commit().await.map_err(query_error("renew the MACs of rows"))
        } else {
            transaction.finish_unchanged();
            Ok(())
        }
    }

    /// Renews the MAC of a row, unless the row is tampered with. Returns whether it was changed.
    async fn renew_row(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        row: &AnyRow,
        (checked, tampered): (&mut CheckedRows, &mut BTreeSet<TamperedRow>),
    ) -> Result<bool, StoreError> {
        match self.find(table, row)? {
            Finding::Valid => {
                checked.valid += 1;
                Ok(false)
            }
            Finding::Older => {
                let (content, _) = table.content_of(row)?;
                let Some(mac) = self.row_macs().mac(&content) else { return Ok(false) };
                table.write_mac(connection, row, &mac).await?;
                checked.valid += 1;
                checked.renewed += 1;
                Ok(true)
            }
            Finding::Tampered(why) => {
                tampered.insert(TamperedRow { table: table.name, row: table.key_of(row) });
                let _ = self.row_macs().raise_alarm(table, table.key_of(row), why.into());
                // Its MAC would prevent the retirement of the key that it names.
                let (_, mac) = table.content_of(row)?;
                let is_older = mac.is_some_and(|mac| !mac.is_empty() && !mac.starts_with(&self.primary_prefix()));
                if is_older {
                    table.write_mac(connection, row, "").await?;
                }
                Ok(is_older)
            }
        }
    }

    fn find(&self, table: &Table, row: &AnyRow) -> Result<Finding, StoreError> {
        let Some(ring) = self.row_macs().ring() else { return Ok(Finding::Valid) };
        let (content, mac) = table.content_of(row)?;
        Ok(match ring.check_row_mac(&content, mac.as_deref()) {
            Ok(key) if key == ring.primary_key_id() => Finding::Valid,
            Ok(_) => Finding::Older,
            Err(why) => Finding::Tampered(why),
        })
    }

    fn primary_prefix(&self) -> String {
        self.row_macs().ring().map(|ring| format!("{}:", ring.primary_key_id())).unwrap_or_default()
    }

    /// How many rows have a MAC by a key other than the primary one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_rows_of_older_keys(&self) -> Result<u64, StoreError> {
        let Some(ring) = self.row_macs().ring() else { return Ok(0) };
        let mut connection = self.read_pool().acquire().await.map_err(query_error("count rows by key"))?;
        let pattern = format!("{}:%", ring.primary_key_id());
        count_rows(&mut connection, "NOT LIKE", &pattern).await
    }
}

/// How many rows have a MAC by this key.
pub(crate) async fn count_rows_of_key(connection: &mut Connection, key: KeyId) -> Result<u64, StoreError> {
    count_rows(connection, "LIKE", &format!("{key}:%")).await
}

async fn count_rows(connection: &mut Connection, operator: &str, pattern: &str) -> Result<u64, StoreError> {
    let mut count = 0;
    for table in tables::ALL {
        let text = format!("SELECT COUNT(*) FROM {} WHERE mac <> '' AND mac {operator} $1", table.name);
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(text))
            .bind(pattern.to_owned())
            .fetch_one(&mut *connection)
            .await
            .map_err(query_error("count rows by key"))?;
        count += rows.unsigned_abs();
    }
    Ok(count)
}
