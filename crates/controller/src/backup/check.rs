//! Checks a database and everything in it, on a copy: a server may use the database.

use super::{
    BackupError, DATABASE_NAME,
    database::{Sharing, copy_database},
    manifest::digests,
    work_dir::WorkDir,
};
use crate::{
    api_error::chain,
    config::Config,
    keys::{KeyRing, KeyRotation, key_source},
};
use anteroom_store::{
    Address, DatabaseFile, RowsWithMacs, SCHEMA_VERSION, Store, StoreError, StoreErrorKind, StoreSettings,
};
use anteroom_wire::operator_reports::DatabaseReport;

/// Checks the database of this configuration: pages and indices (of a file), references between rows, the MAC of each row, and that each
/// record belongs to its row. Changes nothing. Needs as much space in the state directory as the database.
///
/// # Errors
/// The database cannot be opened, or there is no space for a copy.
pub async fn check_database(config: &Config) -> Result<DatabaseReport, BackupError> {
    let mut report = DatabaseReport::default();
    match config.database_address()? {
        Address::File(path) => {
            if !path.is_file() {
                return Err(BackupError::NoDatabase { path });
            }
            let mut database = DatabaseFile::open(&path).await.map_err(BackupError::Database)?;
            report.faults = pages(&mut database).await?;
            database.close().await.map_err(BackupError::Database)?;
            // A damaged file cannot be copied.
            if !report.faults.is_empty() {
                return Ok(report);
            }
        }
        Address::Postgres(_) => {
            report.not_checked.push("pages and indices: `pg_amcheck` checks those of PostgreSQL".to_owned());
        }
    }
    let state_dir = config.state_dir.clone();
    let work = WorkDir::create_in(&state_dir).map_err(|source| BackupError::Write { path: state_dir, source })?;
    let mut copy = match copy_database(config, &work.path(DATABASE_NAME), Sharing::Shared).await {
        Err(BackupError::Database(error @ (StoreError::Table { .. } | StoreError::CopyDiffers { .. })))
            if error.kind() != StoreErrorKind::Unavailable =>
        {
            report.faults.push(chain(&error));
            return Ok(report);
        }
        other => other?,
    };
    let filled = fill(&mut report, &mut copy).await;
    copy.close().await.map_err(BackupError::Database)?;
    filled?;
    check_rows(config, &work, &mut report).await.map_err(BackupError::Database)?;
    Ok(report)
}

async fn pages(database: &mut DatabaseFile) -> Result<Vec<String>, BackupError> {
    let mut faults = database.check().await.map_err(BackupError::Database)?;
    faults.extend(database.orphans().await.map_err(BackupError::Database)?);
    Ok(faults)
}

async fn fill(report: &mut DatabaseReport, copy: &mut DatabaseFile) -> Result<(), BackupError> {
    report.schema_version = copy.summary().await.map_err(BackupError::Database)?.schema_version;
    report.tables = digests(copy.tables().await.map_err(BackupError::Database)?);
    // What PostgreSQL has let pass: its owner can remove rules.
    report.faults = pages(copy).await?;
    Ok(())
}

/// Opens the copy as a server would.
async fn check_rows(config: &Config, work: &WorkDir, report: &mut DatabaseReport) -> Result<(), StoreError> {
    if report.schema_version != SCHEMA_VERSION {
        report.not_checked.push(format!(
            "MACs and records: the database has schema version {}, and this program checks version {SCHEMA_VERSION}",
            report.schema_version
        ));
        return Ok(());
    }
    let store = Store::open(&work.path(DATABASE_NAME), StoreSettings::default()).await?;
    let checked = check_store(config, &store, report).await;
    store.close().await;
    checked
}

async fn check_store(config: &Config, store: &Store, report: &mut DatabaseReport) -> Result<(), StoreError> {
    let Some(known) = store.get_key_fingerprint().await? else { return Ok(()) };
    let ring = match KeyRing::open(key_source(config)).and_then(|ring| ring.check_fingerprint(&known).map(|()| ring)) {
        Ok(ring) => ring,
        Err(error) => {
            report.not_checked.push(format!("MACs and records: {error}"));
            return Ok(());
        }
    };
    if store.rows_with_macs().await? == RowsWithMacs::All {
        store.use_row_macs(ring.clone());
        report.rows_authentic = Some(store.check_rows().await?.valid);
    } else {
        report.not_checked.push("MACs: the rows have none yet; the next start of the server adds them".to_owned());
    }
    let rotation = KeyRotation::new(store.clone(), ring);
    rotation.check_records().await?;
    let tampered = store.tampered_rows();
    report.faults.extend(
        tampered.iter().map(|row| format!("the row {} of {} was changed outside of the server", row.row, row.table)),
    );
    let unreadable = rotation.unreadable_records();
    report.faults.extend(unreadable.iter().map(|(id, error)| format!("the record of {id} cannot be opened: {error}")));
    Ok(())
}
