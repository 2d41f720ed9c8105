//! Stores a credential and completes its session in one transaction. A session that renews a credential replaces its bytes; the id
//! stays the same.

use crate::{
    CredentialRow, DeletionPolicy, HealthKind, NewMessage, NewTimelineEntry, ObservedWrite, Reason, SessionEnd,
    SessionOutcome, SessionPurpose, SessionRow, Sha256Hex, Store, StoreError, TimelineRow, UnixMs, WriteKind,
    connection::Connection,
    credentials,
    error::query_error,
    keys, new_revision, outbox,
    row_macs::{RowMacs, tables::CREDENTIALS},
    row_reader::to_sql_integer,
    sessions, timeline,
    transition::{self, SessionChange},
};
use anteroom_vault::SealedBytes;
use anteroom_wire::{CredentialId, EndReason, SessionId, api::CredentialFile, provider::MethodName};

const OPERATION: &str = "store a credential";

/// A delivery that completes its session.
#[derive(Debug, Clone, Copy)]
pub struct CompleteWithCredential<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that delivers.
    pub generation: u32,
    /// The hash of that machine's agent token.
    pub agent_token: &'a Sha256Hex,
    /// The delivered credential, sealed for the session, its owner and its provider.
    pub credential: NewCredential<'a>,
    /// Webhook messages to enqueue in the same transaction.
    pub webhook_messages: &'a [NewMessage],
    /// The current time.
    pub at_ms: UnixMs,
}

/// A credential to be stored. Owner, user, provider and method are the session's.
#[derive(Debug, Clone, Copy)]
pub struct NewCredential<'a> {
    /// The id for which it was sealed: a new one, or the one that the session renews.
    pub id: &'a CredentialId,
    /// The sealed files.
    pub sealed: &'a SealedBytes,
    /// The revision for which it was sealed: 1 for a new credential, else one more than the revision that it replaces.
    pub revision: u64,
    /// The metadata of the files.
    pub files: &'a [CredentialFile],
    /// How long it is retained.
    pub deletion_policy: DeletionPolicy,
    /// When it expires for good, from its content.
    pub expires_at_ms: Option<UnixMs>,
    /// The name of the signed-in account at the provider, from its content; clean and bounded.
    pub account: Option<&'a str>,
}

/// The result of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum CompleteOutcome {
    /// The credential is stored and the session completed.
    Stored {
        /// The credential.
        credential: Box<CredentialRow>,
        /// The session after the change.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
    },
    /// The session had already ended; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's current machine; nothing was changed.
    WrongToken,
    /// The credential that the session renews was deleted, or belongs to another owner or provider; nothing was changed.
    NothingToRenew,
}

impl Store {
    /// Stores the credential, completes the session and appends its timeline entry in one transaction, if the session is active and
    /// the delivery comes from its current machine. If the session renews a credential, the bytes of that are replaced. Sessions that
    /// use a credential call [`Store::refresh_credential`] instead.
    ///
    /// # Errors
    /// When there is no such session, it is not a sign-in or renews another credential than the given one (conflict), or the database
    /// cannot be written; then nothing was stored.
    pub async fn complete_with_credential(
        &self,
        completion: &CompleteWithCredential<'_>,
        entry: NewTimelineEntry,
    ) -> Result<CompleteOutcome, StoreError> {
        let mut transaction =
            self.begin_write(ObservedWrite::with_entry(WriteKind::Complete, entry.kind), OPERATION).await?;
        let current = sessions::fetch_existing_session(self.row_macs(), &mut transaction, completion.session).await?;
        let token_matches = current.agent_token.as_ref() == Some(completion.agent_token);
        if !token_matches || current.generation != completion.generation {
            transaction.finish_unchanged();
            return Ok(CompleteOutcome::WrongToken);
        }
        if !current.is_active() {
            transaction.finish_unchanged();
            return Ok(CompleteOutcome::Ignored(Box::new(current)));
        }
        if !self.may_write(&current) {
            return Err(self.refuse(transaction, completion.session));
        }
        let new = completion.credential;
        let (stored, is_renewal) = match &current.purpose {
            SessionPurpose::SignIn { renews: None } => {
                (Some(insert(self.row_macs(), &mut transaction, &current, completion).await?), false)
            }
            SessionPurpose::SignIn { renews: Some(renewed) } if renewed == new.id => {
                let replacement = new_revision::NewRevision {
                    credential: new,
                    deletion_policy: new.deletion_policy,
                    sign_in_method: current.method.as_ref(),
                    at_ms: completion.at_ms,
                };
                (
                    new_revision::store_new_revision(self.row_macs(), &mut transaction, &current, &replacement)
                        .await?
                        .map(|replaced| replaced.credential),
                    true,
                )
            }
            SessionPurpose::SignIn { renews: Some(_) } | SessionPurpose::UseCredential(_) => {
                transaction.finish_unchanged();
                return Err(StoreError::WrongPurpose(completion.session.clone()));
            }
        };
        let Some(credential) = stored else {
            transaction.finish_unchanged();
            return Ok(CompleteOutcome::NothingToRenew);
        };
        let end = SessionEnd {
            outcome: SessionOutcome::Completed(new.id.clone()),
            reason: Reason::new(EndReason::Completed, ""),
            at_ms: completion.at_ms,
        };
        let row =
            transition::apply_change(self.row_macs(), &mut transaction, current, SessionChange::complete(end)).await?;
        let outcome = timeline::append_entry_in(&mut transaction, completion.session, entry, self, u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, outcome.into_row()) else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        outbox::enqueue_messages(&mut transaction, completion.webhook_messages).await?;
        if is_renewal {
            self.commit_erasing(transaction, OPERATION).await?;
        } else {
            transaction.commit().await.map_err(query_error(OPERATION))?;
        }
        Ok(CompleteOutcome::Stored { credential: Box::new(credential), row: Box::new(row), entry })
    }
}

async fn insert(
    macs: &RowMacs,
    connection: &mut Connection,
    session: &SessionRow,
    completion: &CompleteWithCredential<'_>,
) -> Result<CredentialRow, StoreError> {
    let new = completion.credential;
    if new.revision != 1 {
        return Err(StoreError::RevisionChanged(new.id.clone()));
    }
    let key_id = new.sealed.key_id();
    keys::require_unretired_key(&mut *connection, key_id).await?;
    sqlx::query(
        "INSERT INTO credentials (id, owner, user_id, provider, session_id, sealed, key_id, files, stored_at_ms, method, \
         policy, deliver_until_ms, health, checked_at_ms, expires_at_ms, account, revision) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $9, $14, $15, 1)",
    )
    .bind(new.id.as_str())
    .bind(session.owner.as_str())
    .bind(session.user_id.as_deref())
    .bind(session.provider.as_str())
    .bind(session.id.as_str())
    .bind(new.sealed.as_bytes())
    .bind(i64::from(key_id.0))
    .bind(credentials::encode_files(new.files))
    .bind(to_sql_integer(completion.at_ms))
    .bind(session.method.as_ref().map(MethodName::as_str))
    .bind(new.deletion_policy.kind().as_str())
    .bind(new.deletion_policy.until_ms().map(to_sql_integer))
    .bind(HealthKind::Valid.as_str())
    .bind(new.expires_at_ms.map(to_sql_integer))
    .bind(new.account)
    .execute(&mut *connection)
    .await
    .map_err(query_error(OPERATION))?;
    macs.renew(connection, &CREDENTIALS, new.id.as_str().into()).await?;
    Ok(CredentialRow {
        id: new.id.clone(),
        owner: session.owner.clone(),
        user_id: session.user_id.clone(),
        provider: session.provider.clone(),
        session: session.id.clone(),
        key_id,
        files: new.files.to_vec(),
        stored_at_ms: completion.at_ms,
        deleted_at_ms: None,
        method: session.method.clone(),
        deletion_policy: new.deletion_policy,
        health: HealthKind::Valid,
        health_detail: None,
        checked_at_ms: completion.at_ms,
        expires_at_ms: new.expires_at_ms,
        account: new.account.map(str::to_owned),
        revision: 1,
    })
}
