//! Other bytes in the place of a credential's: its id, owner and tool stay, everything that says something of the bytes is replaced with
//! them, in one transaction.
//!
//! | who | when | afterwards |
//! |---|---|---|
//! | a session that renews it | its sign-in succeeds | the session is completed ([`Store::complete_with_credential`]) |
//! | a session that uses it | the tool has changed its file | the session goes on ([`Store::refresh_credential`]) |
//!
//! **Who wins.** The one that is written last. Two machines may have one credential, and tools renew their tokens at any time; a token
//! that was renewed is often the only one that the provider still takes, and which of two that is nobody here can know. Refusing the
//! later of two would throw away bytes that exist nowhere else and cannot be had again without a person; taking it throws away bytes
//! that a machine, or the person who just signed in, delivered before: both may be wrong, but only what is written last is known to be
//! what its tool believed in last. So the last one is taken, and where it took the place of bytes that it did not grow from, its
//! timeline says so, with all three numbers. A check tells soon whether the tool still agrees.

use crate::{
    Change, CredentialRow, Health, Retention, NewCredential, NewEvent, NewMessage, SessionRow, Sha256Hex, Store, StoreError,
    TimelineRow, UnixMs, WriteKind, row::stored, credentials, outbox, sessions, error::query_error, timeline, transition,
};
use anteroom_wire::{SessionId, provider::MethodName};
use sqlx::AnyConnection;

const OPERATION: &str = "store a credential that was changed by its use";

/// Bytes that are to take the place of a credential's.
pub(crate) struct Bytes<'a> {
    /// They, and what they are.
    pub(crate) new: NewCredential<'a>,
    /// How long it is kept from now on.
    pub(crate) retention: Retention,
    /// The method they were got by.
    pub(crate) method: Option<&'a MethodName>,
    /// Now.
    pub(crate) at_ms: UnixMs,
}

/// What was replaced.
pub(crate) struct Replaced {
    /// The credential as it is now.
    pub(crate) credential: CredentialRow,
    /// The revision that it had.
    pub(crate) before: u64,
}

/// A delivery from a session that uses a credential: the tool has changed it.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that delivers.
    pub generation: u32,
    /// The hash of the token it delivers with.
    pub agent_token: &'a Sha256Hex,
    /// What it delivers, sealed for this session and the used credential. How long it is kept stays as it was.
    pub credential: NewCredential<'a>,
    /// Who else is to be told, in the same transaction.
    pub messages: &'a [NewMessage],
    /// Now.
    pub at_ms: UnixMs,
}

/// Which revisions a refresh is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// The one that lay in the machine.
    pub installed: u64,
    /// The one whose place it took. Another than `installed`: somebody else had replaced that meanwhile.
    pub replaced: u64,
    /// The one it is.
    pub stored: u64,
}

/// What became of a refresh.
#[derive(Debug, Clone, PartialEq)]
pub enum Refreshed {
    /// The credential has the new bytes; the session goes on.
    Stored {
        /// The credential.
        credential: Box<CredentialRow>,
        /// The session after it: active.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
        /// Which revisions these were.
        revisions: Revisions,
    },
    /// The session had ended before; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's present machine; nothing was changed.
    WrongToken,
    /// The credential was deleted, or is somebody else's or another tool's; nothing was changed.
    NothingToReplace,
}

impl Store {
    /// Gives the credential that the session uses other bytes, if the delivery comes from its present machine and it is active. The
    /// last one wins; `event` writes the timeline entry and is told which revisions it is about. The session does not end and may
    /// do so again.
    ///
    /// # Errors
    /// When there is no such session, it does not use this credential (conflict), or the database cannot be written; then nothing was
    /// stored.
    pub async fn refresh_credential(
        &self,
        refresh: &Refresh<'_>,
        event: impl FnOnce(Revisions) -> NewEvent + Send,
    ) -> Result<Refreshed, StoreError> {
        let mut transaction = self.begin(WriteKind::Refresh, OPERATION).await?;
        let current = sessions::expect(&mut transaction, refresh.session).await?;
        let own = current.agent_token.as_ref() == Some(refresh.agent_token);
        if !own || current.generation != refresh.generation {
            transaction.unchanged();
            return Ok(Refreshed::WrongToken);
        }
        if !current.is_active() {
            transaction.unchanged();
            return Ok(Refreshed::Ignored(Box::new(current)));
        }
        let used = current.purpose.credential_use().filter(|using| using.credential == *refresh.credential.id).cloned();
        let Some(used) = used else {
            transaction.unchanged();
            return Err(StoreError::WrongPurpose(refresh.session.clone()));
        };
        let Some(old) = credentials::fetch(&mut transaction, &used.credential).await? else {
            transaction.unchanged();
            return Ok(Refreshed::NothingToReplace);
        };
        // They grew from what lies in this machine, not from what somebody else may have stored meanwhile by another method.
        let method = current.method.as_ref().or(old.method.as_ref());
        let with = Bytes { new: refresh.credential, retention: old.retention, method, at_ms: refresh.at_ms };
        let Some(Replaced { credential, before }) = replace(&mut transaction, &current, &with).await? else {
            transaction.unchanged();
            return Ok(Refreshed::NothingToReplace);
        };
        let revisions = Revisions { installed: used.revision, replaced: before, stored: credential.revision };
        let change = Change::new().used_revision(credential.revision);
        let row = transition::update(&mut transaction, current, change).await?;
        let event = event(revisions);
        let entry = timeline::append(&mut transaction, refresh.session, event, self.settings(), u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, entry) else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        outbox::enqueue(&mut transaction, refresh.messages).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(Refreshed::Stored { credential: Box::new(credential), row: Box::new(row), entry, revisions })
    }
}

/// Replaces the bytes inside the caller's transaction, which must end with [`Store::commit_erasing`]. `None`: the credential was
/// deleted, is none, or is not of the session's owner and tool; nothing was changed.
pub(crate) async fn replace(
    connection: &mut AnyConnection,
    session: &SessionRow,
    with: &Bytes<'_>,
) -> Result<Option<Replaced>, StoreError> {
    let new = with.new;
    let old = credentials::fetch(&mut *connection, new.id).await?;
    let is_its = |old: &CredentialRow| {
        old.deleted_at_ms.is_none() && old.owner == session.owner && old.provider == session.provider
    };
    let Some(old) = old.filter(is_its) else { return Ok(None) };
    let key_id = new.sealed.key_id();
    let done = sqlx::query(
        "UPDATE credentials SET session_id = $3, sealed = $4, key_id = $5, files = $6, stored_at_ms = $7, method = $8, \
         policy = $9, deliver_until_ms = $10, health = $11, health_detail = NULL, checked_at_ms = $7, expires_at_ms = $12, \
         revision = revision + 1 WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL",
    )
    .bind(new.id.as_str())
    .bind(stored(old.revision))
    .bind(session.id.as_str())
    .bind(new.sealed.as_bytes())
    .bind(i64::from(key_id.0))
    .bind(credentials::files_as_text(new.files))
    .bind(stored(with.at_ms))
    .bind(with.method.map(MethodName::as_str))
    .bind(with.retention.kind().as_str())
    .bind(with.retention.until_ms().map(stored))
    .bind(Health::Valid.as_str())
    .bind(new.expires_at_ms.map(stored))
    .execute(connection)
    .await
    .map_err(query_error("replace a credential's bytes"))?;
    if done.rows_affected() != 1 {
        return Ok(None);
    }
    let before = old.revision;
    let credential = CredentialRow {
        session: session.id.clone(),
        method: with.method.cloned(),
        key_id,
        files: new.files.to_vec(),
        stored_at_ms: with.at_ms,
        retention: with.retention,
        health: Health::Valid,
        health_detail: None,
        checked_at_ms: with.at_ms,
        expires_at_ms: new.expires_at_ms,
        revision: before + 1,
        ..old
    };
    Ok(Some(Replaced { credential, before }))
}
