//! The audit trail of this server: what changes or reveals something is recorded with its caller, peer and outcome.
//!
//! A request's caller, peer and id are in its [`RequestScope`], so that a use case records a deed without being given them. Outside of
//! a request the server is the actor.

mod changed_settings;
mod request_scope;
mod restored;
mod task;

pub use changed_settings::changed_settings;
pub use request_scope::{
    RequestScope, note_action, note_actor, note_agent, note_caller, note_credential, note_detail, note_peer,
    note_person, note_session, note_user,
};
pub use restored::record_restore;
pub use task::run_audit_task;

use crate::{
    api_error::{ApiError, chain},
    config::Config,
    limits::AuditLimits,
    unix_time,
};
use anteroom_audit::{
    Action, Actor, Coalescer, Counters, Entry, Head, KnownHead, MacKeys, OpenError, Subject, Trail, TrailSettings,
    Verification,
};
use anteroom_store::{Store, StoreError};
use anteroom_vault::KeyRing;
use anteroom_wire::{CallerId, Problem};
use parking_lot::Mutex;
use std::{io, path::Path, sync::Arc};

/// The outcome that is recorded before a deed that reveals a secret.
pub const ATTEMPTED: &str = "attempted";

/// The purpose for which the keys of the MACs are derived from the key ring.
const KEY_PURPOSE: &str = "anteroom audit trail 1";

/// The audit trail.
pub struct Audit {
    trail: Trail,
    coalescer: Mutex<Coalescer>,
    store: Store,
    head_every_ms: u64,
}

/// Why the audit trail cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The database cannot be read.
    #[error("the head of the audit trail cannot be read from the database")]
    Database(#[from] StoreError),
    /// The files cannot be used.
    #[error(transparent)]
    Trail(#[from] OpenError),
}

/// The keys of the MACs, from the key ring.
pub fn mac_keys(vault: &KeyRing) -> MacKeys {
    vault.derive_keys(KEY_PURPOSE).into_iter().map(|(id, key)| (id.0, key)).collect()
}

/// The settings of the trail.
pub fn trail_settings(config: &Config, limits: &AuditLimits) -> TrailSettings {
    TrailSettings {
        dir: config.audit_dir(),
        head_copy: config.audit.head_copy.clone(),
        segment_bytes_max: limits.segment_bytes_max,
        bytes_max: config.audit.bytes_max,
        age_s_max: config.audit.days_max.saturating_mul(24 * 3_600),
    }
}

/// The heads in other places than the head file: the database, and the configured copy.
///
/// # Errors
/// The database cannot be read. A copy that cannot be read is not authentic.
pub async fn known_heads(config: &Config, store: &Store, keys: &MacKeys) -> Result<Vec<KnownHead>, StoreError> {
    let mut known = Vec::new();
    if let Some(text) = store.get_audit_head().await? {
        known.push(KnownHead { place: "the database".to_owned(), head: Head::decode(&text, keys) });
    }
    if let Some(path) = &config.audit.head_copy {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                known.push(KnownHead { place: path.display().to_string(), head: Head::decode(&text, keys) });
            }
            // It is written with the first record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => known.push(KnownHead { place: path.display().to_string(), head: None }),
        }
    }
    Ok(known)
}

impl Audit {
    /// Opens the trail.
    ///
    /// # Errors
    /// Its files or the database cannot be used, or another process writes it.
    pub async fn open(
        config: &Config,
        limits: &AuditLimits,
        store: &Store,
        vault: &KeyRing,
    ) -> Result<Self, AuditOpenError> {
        let keys = mac_keys(vault);
        let known = known_heads(config, store, &keys).await?;
        let heads: Vec<_> = known.into_iter().filter_map(|known| known.head).collect();
        let trail = Trail::open(trail_settings(config, limits), keys, &heads)?;
        let coalescer = Mutex::new(Coalescer::new(limits.repeat_interval_ms));
        Ok(Self { trail, coalescer, store: store.clone(), head_every_ms: limits.head_every_ms })
    }

    /// Records a deed that was done or refused. If it cannot be written, that is counted, logged and reported by the next record that can.
    pub async fn record(&self, entry: Entry) {
        let admitted = self.coalescer.lock().admit(entry, unix_time::now_unix_ms());
        if let Some(entry) = admitted {
            self.append(entry).await;
        }
    }

    async fn append(&self, mut entry: Entry) {
        let action = entry.action.as_str();
        self.complete_actor(&mut entry.actor).await;
        if let Err(error) = self.trail.append(entry, false).await {
            tracing::debug!(outcome = "audit_not_written", action, error = %chain(&error), "audit record not written");
        }
    }

    /// Adds name and role of a caller that is known by its id. A database that cannot be read does not prevent the record.
    async fn complete_actor(&self, actor: &mut Actor) {
        let Some(id) = actor.id.as_ref().and_then(|id| id.parse::<CallerId>().ok()) else { return };
        if let Ok(Some(row)) = self.store.get_caller(&id).await {
            actor.role.get_or_insert_with(|| row.role.as_str().to_owned());
            actor.name.get_or_insert(row.name);
        }
    }

    /// Records a deed that reveals a secret, before it is done: returns when the record is on the disk. The actor is the current request's
    /// caller or the server.
    ///
    /// # Errors
    /// It cannot be recorded, so it must not be done.
    pub async fn record_before(&self, action: Action, subject: Subject) -> Result<(), ApiError> {
        let mut entry = Entry { outcome: ATTEMPTED.to_owned(), subject, ..RequestScope::current_entry(action) };
        self.complete_actor(&mut entry.actor).await;
        self.trail
            .append(entry, true)
            .await
            .map_err(|error| ApiError::new(Problem::AuditUnavailable, chain(&error)).with_source(error))
    }

    /// Verifies the whole trail, while nothing is appended.
    ///
    /// # Errors
    /// A file or the database cannot be read.
    pub async fn verify(&self, config: &Config, keys: &MacKeys) -> Result<Verification, ApiError> {
        let known = known_heads(config, &self.store, keys).await?;
        self.trail.verify(known).await.map_err(ApiError::internal)
    }

    /// Uses the keys of this ring from now on.
    pub fn set_keys(&self, vault: &KeyRing) {
        self.trail.set_keys(mac_keys(vault));
    }

    /// The directory of the files.
    pub fn dir(&self) -> &Path {
        self.trail.dir()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.trail.counters()
    }

    /// Writes what was counted and the end of this server, and closes the trail.
    pub async fn close(self: &Arc<Self>) {
        self.write_counts(true).await;
        self.append(Entry::new(Action::ServerStop)).await;
        self.store_head().await;
        let this = Arc::clone(self);
        // It waits for the thread that writes.
        let _ = tokio::task::spawn_blocking(move || this.trail.close()).await;
    }

    async fn write_counts(&self, all: bool) {
        let counts = self.coalescer.lock().take_counts(unix_time::now_unix_ms(), all);
        for entry in counts {
            self.append(entry).await;
        }
    }

    async fn store_head(&self) {
        let (_, head) = self.trail.signed_head();
        if let Err(error) = self.store.set_audit_head(&head).await {
            tracing::warn!(outcome = "audit_head_not_stored", error = %chain(&error), "head of the audit trail not stored in the database");
        }
    }
}
