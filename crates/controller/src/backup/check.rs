//! Checks a database and everything in it, on a copy: a server may use the database.

use super::{BackupError, DATABASE_NAME, manifest::digests, require_file, work_dir::WorkDir};
use crate::{
    config::Config,
    keys::{KeyRing, KeyRotation, key_source},
};
use anteroom_store::{DatabaseFile, RowsWithMacs, SCHEMA_VERSION, Store, StoreError, StoreSettings};
use anteroom_wire::operator_reports::DatabaseReport;

/// Checks the database of this configuration: pages and indices, references between rows, the MAC of each row, and that each record
/// belongs to its row. Changes nothing. Needs as much space in the state directory as the database.
///
/// # Errors
/// The database cannot be opened, or there is no space for a copy.
pub async fn check_database(config: &Config) -> Result<DatabaseReport, BackupError> {
    require_file(config)?;
    let path = config.state_dir.join(DATABASE_NAME);
    if !path.is_file() {
        return Err(BackupError::NoDatabase { path });
    }
    let mut database = DatabaseFile::open(&path).await.map_err(BackupError::Database)?;
    let mut report = DatabaseReport { faults: pages(&mut database).await?, ..DatabaseReport::default() };
    // A damaged database cannot be copied.
    if report.faults.is_empty() {
        let state_dir = config.state_dir.clone();
        let work = WorkDir::create_in(&state_dir).map_err(|source| BackupError::Write { path: state_dir, source })?;
        let mut copy = database.copy_to(&work.path(DATABASE_NAME)).await.map_err(BackupError::Database)?;
        let filled = fill(&mut report, &mut copy).await;
        copy.close().await.map_err(BackupError::Database)?;
        filled.map_err(BackupError::Database)?;
        check_rows(config, &work, &mut report).await.map_err(BackupError::Database)?;
    }
    database.close().await.map_err(BackupError::Database)?;
    Ok(report)
}

async fn pages(database: &mut DatabaseFile) -> Result<Vec<String>, BackupError> {
    let mut faults = database.check().await.map_err(BackupError::Database)?;
    faults.extend(database.orphans().await.map_err(BackupError::Database)?);
    Ok(faults)
}

async fn fill(report: &mut DatabaseReport, copy: &mut DatabaseFile) -> Result<(), StoreError> {
    report.schema_version = copy.summary().await?.schema_version;
    report.tables = digests(copy.tables().await?);
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
