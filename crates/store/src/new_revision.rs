//! Replaces the bytes of a credential: its id, owner and provider stay; the bytes and all metadata of them are replaced in one
//! transaction.
//!
//! | session | when | afterwards |
//! |---|---|---|
//! | renews the credential | its sign-in succeeds | it is completed ([`Store::complete_with_credential`]) |
//! | uses the credential | the tool has changed its file | it continues ([`Store::refresh_credential`]) |
//!
//! **The last write wins.** Uses of a credential whose tool renews its tokens, and sign-ins that renew it, take turns
//! (`credentials/turns` in the controller), so each begins with the newest revision. Uses of credentials that are never renewed run
//! in parallel, also with a sign-in. The store cannot know which of two deliveries the provider accepts. Rejecting the later one
//! would lose bytes that exist nowhere else; only the last write is known to be what its tool used last, so it is accepted. If it
//! replaces a revision from which it was not derived, the timeline records all three revisions, and the next check shows whether the
//! tool still accepts the credential.

use crate::{
    CredentialRow, DeletionPolicy, HealthKind, NewCredential, NewMessage, NewTimelineEntry, SessionChange, SessionRow,
    Sha256Hex, Store, StoreError, TimelineRow, UnixMs, WriteKind,
    connection::Connection,
    credentials,
    error::query_error,
    keys, outbox,
    row_macs::{RowMacs, tables::CREDENTIALS},
    row_reader::to_sql_integer,
    sessions, timeline, transition,
};
use anteroom_wire::{SessionId, provider::MethodName};

const OPERATION: &str = "store a refreshed credential";

/// The new bytes of a credential.
pub(crate) struct NewRevision<'a> {
    /// The bytes with their metadata.
    pub(crate) credential: NewCredential<'a>,
    /// How long the credential is retained from now on.
    pub(crate) deletion_policy: DeletionPolicy,
    /// The sign-in method of the new bytes.
    pub(crate) sign_in_method: Option<&'a MethodName>,
    /// The present time.
    pub(crate) at_ms: UnixMs,
}

/// The result of a replacement.
pub(crate) struct StoredRevision {
    /// The credential after it.
    pub(crate) credential: CredentialRow,
    /// The revision before it.
    pub(crate) previous_revision: u64,
}

/// A delivery from a session that uses a credential, after the tool has changed it.
#[derive(Debug, Clone, Copy)]
pub struct RefreshCredential<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that delivers.
    pub generation: u32,
    /// The hash of that machine's agent token.
    pub agent_token: &'a Sha256Hex,
    /// The delivered bytes, sealed for this session and the used credential. The deletion policy of the credential does not change.
    pub credential: NewCredential<'a>,
    /// Webhook messages to enqueue in the same transaction.
    pub webhook_messages: &'a [NewMessage],
    /// The present time.
    pub at_ms: UnixMs,
}

/// The revisions of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// The revision that was installed in the machine.
    pub installed: u64,
    /// The revision that was replaced. It differs from `installed` if another session replaced that in the meantime.
    pub replaced: u64,
    /// The new revision.
    pub stored: u64,
}

/// The result of a refresh.
#[derive(Debug, Clone, PartialEq)]
pub enum RefreshOutcome {
    /// The credential has the new bytes; the session continues.
    Stored {
        /// The credential.
        credential: Box<CredentialRow>,
        /// The session after the change, still active.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
        /// The revisions.
        revisions: Revisions,
    },
    /// The session had already ended; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's present machine; nothing was changed.
    WrongToken,
    /// The credential was deleted, or belongs to another owner or provider; nothing was changed.
    NothingToRefresh,
}

impl Store {
    /// Replaces the bytes of the credential that the session uses, if the session is active and the delivery comes from its present
    /// machine. The last write wins. `entry` makes the timeline entry from the revisions. The session continues and may refresh the
    /// credential again.
    ///
    /// # Errors
    /// When there is no such session, it does not use this credential (conflict), or the database cannot be written; then nothing was
    /// stored.
    pub async fn refresh_credential(
        &self,
        refresh: &RefreshCredential<'_>,
        entry: impl FnOnce(Revisions) -> NewTimelineEntry + Send,
    ) -> Result<RefreshOutcome, StoreError> {
        let mut transaction = self.begin_write(WriteKind::Refresh, OPERATION).await?;
        let current = sessions::fetch_existing_session(self.row_macs(), &mut transaction, refresh.session).await?;
        let token_matches = current.agent_token.as_ref() == Some(refresh.agent_token);
        if !token_matches || current.generation != refresh.generation {
            transaction.finish_unchanged();
            return Ok(RefreshOutcome::WrongToken);
        }
        if !current.is_active() {
            transaction.finish_unchanged();
            return Ok(RefreshOutcome::Ignored(Box::new(current)));
        }
        if !self.may_write(&current) {
            return Err(self.refuse(transaction, refresh.session));
        }
        let used = current.purpose.credential_use().filter(|using| using.credential == *refresh.credential.id).cloned();
        let Some(used) = used else {
            transaction.finish_unchanged();
            return Err(StoreError::WrongPurpose(refresh.session.clone()));
        };
        let Some(old) =
            credentials::fetch_valid_credential(self.row_macs(), &mut transaction, &used.credential).await?
        else {
            transaction.finish_unchanged();
            return Ok(RefreshOutcome::NothingToRefresh);
        };
        // The new bytes derive from those in this machine, not from bytes that another session may have stored with another method.
        let method = current.method.as_ref().or(old.method.as_ref());
        // A refreshed file may have lost the account's name; a use does not change the account.
        let account = refresh.credential.account.or(old.account.as_deref());
        let replacement = NewRevision {
            credential: NewCredential { account, ..refresh.credential },
            deletion_policy: old.deletion_policy,
            sign_in_method: method,
            at_ms: refresh.at_ms,
        };
        let Some(StoredRevision { credential, previous_revision: before }) =
            store_new_revision(self.row_macs(), &mut transaction, &current, &replacement).await?
        else {
            transaction.finish_unchanged();
            return Ok(RefreshOutcome::NothingToRefresh);
        };
        let revisions = Revisions { installed: used.revision, replaced: before, stored: credential.revision };
        let change = SessionChange::new().with_used_revision(credential.revision);
        let row = transition::apply_change(self.row_macs(), &mut transaction, current, change).await?;
        let entry = entry(revisions);
        let outcome = timeline::append_entry_in(&mut transaction, refresh.session, entry, self, u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, outcome.into_row()) else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        outbox::enqueue_messages(&mut transaction, refresh.webhook_messages).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(RefreshOutcome::Stored { credential: Box::new(credential), row: Box::new(row), entry, revisions })
    }
}

/// Replaces the bytes in the caller's transaction, which must end with [`Store::commit_erasing`]. `None`: the credential was deleted,
/// does not exist, or belongs to another owner or provider than the session; nothing was changed.
pub(crate) async fn store_new_revision(
    macs: &RowMacs,
    connection: &mut Connection,
    session: &SessionRow,
    replacement: &NewRevision<'_>,
) -> Result<Option<StoredRevision>, StoreError> {
    let new = replacement.credential;
    let old = credentials::fetch_valid_credential(macs, &mut *connection, new.id).await?;
    let is_replaceable = |old: &CredentialRow| {
        old.deleted_at_ms.is_none() && old.owner == session.owner && old.provider == session.provider
    };
    let Some(old) = old.filter(is_replaceable) else { return Ok(None) };
    if new.revision != old.revision + 1 {
        return Err(StoreError::RevisionChanged(new.id.clone()));
    }
    let key_id = new.sealed.key_id();
    keys::require_unretired_key(&mut *connection, key_id).await?;
    let done = sqlx::query(
        "UPDATE credentials SET session_id = $3, sealed = $4, key_id = $5, files = $6, stored_at_ms = $7, method = $8, \
         policy = $9, deliver_until_ms = $10, health = $11, health_detail = NULL, checked_at_ms = $7, expires_at_ms = $12, \
         account = $13, revision = revision + 1 WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL",
    )
    .bind(new.id.as_str())
    .bind(to_sql_integer(old.revision))
    .bind(session.id.as_str())
    .bind(new.sealed.as_bytes())
    .bind(i64::from(key_id.0))
    .bind(credentials::encode_files(new.files))
    .bind(to_sql_integer(replacement.at_ms))
    .bind(replacement.sign_in_method.map(MethodName::as_str))
    .bind(replacement.deletion_policy.kind().as_str())
    .bind(replacement.deletion_policy.until_ms().map(to_sql_integer))
    .bind(HealthKind::Valid.as_str())
    .bind(new.expires_at_ms.map(to_sql_integer))
    .bind(new.account)
    .execute(&mut *connection)
    .await
    .map_err(query_error("replace a credential's bytes"))?;
    if done.rows_affected() != 1 {
        return Ok(None);
    }
    macs.renew(connection, &CREDENTIALS, new.id.as_str().into()).await?;
    let previous_revision = old.revision;
    let credential = revised(old, session, replacement);
    Ok(Some(StoredRevision { credential, previous_revision }))
}

/// The credential after its bytes were replaced.
fn revised(old: CredentialRow, session: &SessionRow, replacement: &NewRevision<'_>) -> CredentialRow {
    let new = replacement.credential;
    CredentialRow {
        session: session.id.clone(),
        method: replacement.sign_in_method.cloned(),
        key_id: new.sealed.key_id(),
        files: new.files.to_vec(),
        stored_at_ms: replacement.at_ms,
        deletion_policy: replacement.deletion_policy,
        health: HealthKind::Valid,
        health_detail: None,
        checked_at_ms: replacement.at_ms,
        expires_at_ms: new.expires_at_ms,
        account: new.account.map(str::to_owned),
        revision: old.revision + 1,
        ..old
    }
}
