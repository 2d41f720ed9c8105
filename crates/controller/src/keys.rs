//! The keys that wrap stored credentials: their source, rotation and retirement.
//!
//! ```text
//!  rotate:  key file (durable) ─▶ fingerprint in the database ─▶ ring: new records ─▶ the rewrap job: existing records
//!  retire:  no record uses it ─┐
//!           fingerprint without it ┴─ one transaction ─▶ key file (durable) ─▶ ring
//! ```
//!
//! The store accepts only records that are wrapped by a key of the fingerprint, so a record that was sealed before a retirement
//! cannot be stored after it. A crash between two steps loses nothing: the next start reads the keys of the file and continues.

mod binding;
mod row_macs;
mod source;

pub use anteroom_vault::{KeyId, KeyRing};
pub use binding::binding_of;
pub use row_macs::{accept_rows, record_tampered_row};
pub use source::key_source;

use crate::{api_error::ApiError, api_error::chain, cluster_authority, config::Config, unix_time};
use anteroom_store::{RetireOutcome, SealedCredential, Store, StoreError};
use anteroom_vault::{KeyError, SealError};
use anteroom_wire::{
    CredentialId, Problem,
    operator_reports::{KeyReport, KeyRow},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

/// Records that are read at once; each is written in a transaction of its own, so that other writes take turns with them.
const BATCH: u32 = 20;
/// Records whose alarm is kept in memory; the log has all.
const UNREADABLE_MAX: usize = 100;
/// Passes between two checks of all records: about an hour.
const PASSES_PER_CHECK: u64 = 60;
/// Time between two passes of the job without a rotation.
const PASS_INTERVAL: Duration = Duration::from_secs(60);

/// Rotates and retires keys. One at a time.
#[derive(Debug)]
pub struct KeyRotation {
    store: Store,
    ring: KeyRing,
    changing: Mutex<()>,
    rotated: Notify,
    records_failed: AtomicU64,
    /// Rows whose MAC an older key has made.
    rows_to_renew: AtomicU64,
    unreadable: parking_lot::Mutex<BTreeMap<CredentialId, SealError>>,
}

/// Why a key was not rotated or retired.
#[derive(Debug, thiserror::Error)]
pub enum KeyRotationError {
    /// The keys cannot be read or changed.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Records use the key.
    #[error("{records} records are still wrapped by key {key}")]
    InUse {
        /// The key.
        key: KeyId,
        /// How many.
        records: u64,
    },
    /// The rows of a database of an earlier version cannot get MACs, because that cannot be recorded in the key file.
    #[error(
        "the rows of this database are of an earlier version and have no MACs, and the key file cannot record that they get them; with \
         the server stopped, run `anteroom keys accept-rows --key-file FILE` on the file from which the key file is made"
    )]
    RowsNotAccepted(#[source] KeyError),
    /// The rows of the database have no MACs, although the key file records that they got them.
    #[error(
        "the rows of this database have no MACs, although the key file records that they got them: the database was changed or \
         replaced by an older one. If you have restored a backup from before the upgrade, run `anteroom keys accept-rows` with the server stopped"
    )]
    RowMacsMissing,
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other hosts of the cluster have key files of their own.
    #[error(
        "the host {0} has the keys as well, in a file of its own: stop the other hosts and wait until they are fenced, change the keys here, \
         and copy the key file to the others before they start"
    )]
    OtherHosts(String),
    /// The task was cancelled.
    #[error("the task that changes the keys was cancelled")]
    Cancelled(#[from] tokio::task::JoinError),
}

impl From<KeyRotationError> for ApiError {
    fn from(error: KeyRotationError) -> Self {
        let problem = match &error {
            KeyRotationError::Keys(KeyError::UnknownKey(_)) => Problem::UnknownKey,
            KeyRotationError::Keys(KeyError::PrimaryKey(_)) | KeyRotationError::InUse { .. } => Problem::KeyInUse,
            KeyRotationError::OtherHosts(_) => Problem::HostInUse,
            KeyRotationError::Keys(KeyError::ReadOnly { .. }) => Problem::KeysReadOnly,
            KeyRotationError::Keys(_) | KeyRotationError::RowsNotAccepted(_) | KeyRotationError::RowMacsMissing => {
                Problem::KeysUnavailable
            }
            KeyRotationError::Store(_) | KeyRotationError::Cancelled(_) => Problem::Internal,
        };
        if let KeyRotationError::Store(error) = error {
            return error.into();
        }
        Self::new(problem, chain(&error)).with_source(error)
    }
}

/// Opens the keys and compares them with those with which the database was used. The key file is created at the first start.
///
/// # Errors
/// The keys are missing, cannot be used, or are others.
pub async fn open_key_ring(config: &Config, store: &Store) -> Result<KeyRing, KeyRotationError> {
    let known = store.get_key_fingerprint().await?;
    let has_records = store.has_sealed_credentials().await?;
    let source = key_source(config);
    let ring = if has_records || known.is_some() { KeyRing::open(source) } else { KeyRing::open_or_create(source) };
    let ring = ring?;
    if let Some(known) = &known {
        ring.check_fingerprint(known)?;
    }
    ring.remove_temporary_files();
    row_macs::begin_use(store, &ring).await?;
    store.set_key_fingerprint(&ring.fingerprint()).await?;
    if let Some(error) = ring.lock_error() {
        tracing::warn!(outcome = "not_locked", %error, "keys not locked in memory: they may be swapped out; raise RLIMIT_MEMLOCK");
    }
    Ok(ring)
}

/// Requires the keys with this fingerprint, with which the database was used.
///
/// # Errors
/// The key file cannot be read, or has other keys.
pub fn require_known_keys(config: &Config, known: &str) -> Result<(), KeyRotationError> {
    Ok(KeyRing::open(key_source(config))?.check_fingerprint(known)?)
}

impl KeyRotation {
    /// Rotates the keys of this ring, and rewraps the records of this store.
    pub fn new(store: Store, ring: KeyRing) -> Arc<Self> {
        Arc::new(Self {
            store,
            ring,
            changing: Mutex::default(),
            rotated: Notify::new(),
            records_failed: AtomicU64::new(0),
            rows_to_renew: AtomicU64::new(0),
            unreadable: parking_lot::Mutex::default(),
        })
    }

    /// The keys, and how many records each wraps.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn report(&self) -> Result<KeyReport, StoreError> {
        let counts = self.store.count_records_by_key().await?;
        let keys = self.ring.list_keys();
        let primary = self.ring.primary_key_id();
        let row = |key: &anteroom_vault::KeyMetadata| KeyRow {
            id: key.id.0,
            created_at: unix_time::format_rfc3339(key.created_unix_ms),
            is_primary: key.is_primary,
            records: counts.iter().find(|(id, _)| *id == key.id).map_or(0, |(_, records)| *records),
        };
        Ok(KeyReport {
            source: self.ring.source().to_string(),
            keys: keys.iter().map(row).collect(),
            records_to_rewrap: counts.iter().filter(|(id, _)| *id != primary).map(|(_, records)| records).sum::<u64>()
                + self.rows_to_renew.load(Relaxed),
            records_failed: self.records_failed.load(Relaxed),
        })
    }

    /// Adds a key, seals with it from now on, and wakes the job that rewraps the existing records. Also completes when the caller is
    /// cancelled.
    ///
    /// # Errors
    /// The keys or the database cannot be written.
    pub async fn rotate(self: &Arc<Self>) -> Result<KeyReport, KeyRotationError> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _changing = this.changing.lock().await;
            this.require_only_host().await?;
            let ring = this.ring.clone();
            let pending = tokio::task::spawn_blocking(move || ring.add_key()).await??;
            this.store.set_key_fingerprint(&pending.fingerprint()).await?;
            this.ring.install(pending);
            this.rows_to_renew.store(this.store.count_rows_of_older_keys().await?, Relaxed);
            this.rotated.notify_one();
            tracing::info!(outcome = "key_rotated", key = %this.ring.primary_key_id(), "new primary key");
            Ok(this.report().await?)
        })
        .await?
    }

    /// Removes a key that no record uses, and wipes it. Also completes when the caller is cancelled.
    ///
    /// # Errors
    /// It is the primary key, records use it, there is no such key, or the keys or the database cannot be written.
    pub async fn retire(self: &Arc<Self>, key: KeyId) -> Result<KeyReport, KeyRotationError> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _changing = this.changing.lock().await;
            this.require_only_host().await?;
            this.ring.check_removable(key)?;
            match this.store.retire_key(key, &this.ring.fingerprint_without(key)).await? {
                RetireOutcome::Retired => {}
                RetireOutcome::InUse { records } => {
                    this.rows_to_renew.store(this.store.count_rows_of_older_keys().await?, Relaxed);
                    this.rotated.notify_one();
                    return Err(KeyRotationError::InUse { key, records });
                }
            }
            let ring = this.ring.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || ring.remove_key(key)).await? {
                // The key is still there, so records that it wraps may be stored again.
                this.store.set_key_fingerprint(&this.ring.fingerprint()).await?;
                return Err(error.into());
            }
            tracing::info!(outcome = "key_retired", key = %key, "key retired and wiped");
            Ok(this.report().await?)
        })
        .await?
    }

    /// Requires that no other host of the cluster may work: it would neither open what is sealed with a new key nor notice a retired one.
    async fn require_only_host(&self) -> Result<(), KeyRotationError> {
        let Some(own) = self.store.holder() else { return Ok(()) };
        let hosts = self.store.list_hosts().await?.into_iter();
        let mut others = hosts.filter(|row| row.id != own.host && row.left_at_ms.is_none() && !row.is_fenced());
        others.next().map_or(Ok(()), |other| Err(KeyRotationError::OtherHosts(other.name)))
    }

    /// Rewraps all records that an older key wraps. Returns how many it has rewrapped. A record that cannot be rewrapped is logged and
    /// left as it is.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn rewrap_records(&self) -> Result<u64, StoreError> {
        let (mut rewrapped, mut failed) = (0, 0);
        for key in self.store.list_keys_in_use().await? {
            let mut after: Option<CredentialId> = None;
            while key != self.ring.primary_key_id() {
                let batch = self.store.list_sealed_with_key(key, after.as_ref(), BATCH).await?;
                let Some((last, _)) = batch.last() else { break };
                after = Some(last.clone());
                for (id, sealed) in batch {
                    match self.ring.rewrap(&sealed) {
                        // A record that was replaced or deleted in the meantime needs nothing.
                        Ok(new) => rewrapped += u64::from(self.store.replace_sealed_bytes(&id, &sealed, &new).await?),
                        Err(error) => {
                            failed += 1;
                            log_failure(&id, key, error);
                        }
                    }
                }
            }
        }
        match cluster_authority::rewrap(&self.store, &self.ring).await? {
            Ok(is_rewrapped) => rewrapped += u64::from(is_rewrapped),
            Err(error) => {
                failed += 1;
                tracing::error!(outcome = "not_rewrapped", %error, "the key of the cluster's authority was not rewrapped");
            }
        }
        self.records_failed.store(failed, Relaxed);
        if self.rows_to_renew.load(Relaxed) > 0 {
            self.check_rows().await?;
        }
        Ok(rewrapped)
    }
}

impl KeyRotation {
    /// Checks the MACs of all rows, and renews those that an older key has made.
    async fn check_rows(&self) -> Result<(), StoreError> {
        let checked = self.store.check_rows().await?;
        self.rows_to_renew.store(self.store.count_rows_of_older_keys().await?, Relaxed);
        if checked.renewed > 0 {
            tracing::info!(
                outcome = "rows_renewed",
                rows = checked.renewed,
                "MACs of rows renewed with the primary key"
            );
        }
        Ok(())
    }

    /// Raises the alarm about a record that cannot be opened, once for each record: a line in the log, and the health of the server.
    pub fn report_unreadable(&self, credential: &CredentialId, error: SealError) {
        let mut unreadable = self.unreadable.lock();
        if unreadable.len() >= UNREADABLE_MAX || unreadable.contains_key(credential) {
            return;
        }
        unreadable.insert(credential.clone(), error);
        tracing::error!(outcome = "record_unreadable", %credential, %error, "stored credential changed or moved outside of this server, or its key is missing");
    }

    /// The records for which the alarm was raised and that are not replaced or deleted, with the cause.
    pub fn unreadable_records(&self) -> Vec<(CredentialId, SealError)> {
        self.unreadable.lock().iter().map(|(id, error)| (id.clone(), *error)).collect()
    }

    /// Checks that every record belongs to its row, without decrypting it, and seals records of earlier versions again. Checks all
    /// rows that have MACs.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn check_records(&self) -> Result<(), StoreError> {
        let mut after: Option<CredentialId> = None;
        let mut unreadable = BTreeMap::new();
        loop {
            let batch = self.store.list_sealed_credentials(after.as_ref(), BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = Some(last.credential.id.clone());
            for record in &batch {
                if let Err(error) = self.check_record(record).await? {
                    unreadable.insert(record.credential.id.clone(), error);
                }
            }
        }
        // Those that were replaced or deleted need no alarm any more.
        self.unreadable.lock().retain(|id, _| unreadable.contains_key(id));
        for (id, error) in unreadable {
            self.report_unreadable(&id, error);
        }
        self.check_rows().await
    }

    async fn check_record(&self, record: &SealedCredential) -> Result<Result<(), SealError>, StoreError> {
        let (binding, sealed) = (binding_of(&record.credential), &record.sealed);
        if !sealed.is_outdated() {
            return Ok(self.ring.check(&binding, sealed));
        }
        match self.ring.upgrade(&binding, sealed) {
            Ok(new) => {
                self.store.replace_sealed_bytes(&record.credential.id, sealed, &new).await?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

fn log_failure(credential: &CredentialId, key: KeyId, error: SealError) {
    tracing::error!(outcome = "not_rewrapped", %credential, %key, %error, "credential not rewrapped");
}

/// Rewraps records after each rotation, and at the start those that an interrupted rotation has left. Runs until the server stops.
pub async fn run_rewrap_job(rotation: Arc<KeyRotation>, stop: CancellationToken) {
    for pass in 0_u64.. {
        if pass % PASSES_PER_CHECK == 0
            && let Err(error) = rotation.check_records().await
        {
            tracing::warn!(outcome = "check_delayed", error = %chain(&error), "check of stored records delayed");
        }
        match rotation.rewrap_records().await {
            Ok(0) => {}
            Ok(records) => tracing::info!(outcome = "rewrapped", records, "records rewrapped with the primary key"),
            Err(error) => tracing::warn!(outcome = "rewrap_delayed", error = %chain(&error), "rewrapping delayed"),
        }
        tokio::select! {
            () = rotation.rotated.notified() => {}
            () = tokio::time::sleep(PASS_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}
