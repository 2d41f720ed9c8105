//! Storing a credential and completing its session: one transaction, once.

use crate::{
    CredentialRow, End, NewEvent, Outcome, Reason, SessionRow, Sha256Hex, Store, StoreError, TimelineRow, UnixMs,
    Write, WriteKind,
    cells::stored,
    credentials, sessions,
    store::query,
    timeline,
    transition::{self, Change},
};
use anteroom_vault::Sealed;
use anteroom_wire::{CredentialId, Problem, SessionId, api::CredentialFile};
use sqlx::AnyConnection;

const DOING: &str = "store a credential";

/// A delivery that is to complete its session.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that delivers.
    pub generation: u32,
    /// The hash of the token it delivers with.
    pub agent_token: &'a Sha256Hex,
    /// What it delivers, sealed for the session's owner and provider.
    pub credential: NewCredential<'a>,
    /// Now.
    pub at_ms: UnixMs,
}

/// A credential to be stored. Owner, person and tool are the session's.
#[derive(Debug, Clone, Copy)]
pub struct NewCredential<'a> {
    /// Its id, the one it was sealed for.
    pub id: &'a CredentialId,
    /// The sealed files.
    pub sealed: &'a Sealed,
    /// What they are, without their bytes.
    pub files: &'a [CredentialFile],
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Completed {
    /// The credential is stored and the session completed.
    Stored {
        /// The credential.
        credential: Box<CredentialRow>,
        /// The session after it.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
    },
    /// The session had ended before, with this or otherwise; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's present machine; nothing was changed.
    WrongToken,
}

impl Store {
    /// Stores the credential, completes the session and writes its timeline entry, all or nothing, if the delivery comes from the
    /// session's present machine and the session is active.
    ///
    /// # Errors
    /// When there is no such session, or the database cannot be written; then nothing was stored.
    pub async fn complete_with_credential(
        &self,
        completion: &Completion<'_>,
        event: NewEvent,
    ) -> Result<Completed, StoreError> {
        let mut transaction = self.begin(Write::with_event(WriteKind::Complete, &event.kind), DOING).await?;
        let current = sessions::expect(&mut transaction, completion.session).await?;
        let own = current.agent_token.as_ref() == Some(completion.agent_token);
        if !own || current.generation != completion.generation {
            transaction.unchanged();
            return Ok(Completed::WrongToken);
        }
        if !current.is_active() {
            transaction.unchanged();
            return Ok(Completed::Ignored(Box::new(current)));
        }
        let credential = insert(&mut transaction, &current, completion).await?;
        let end = End {
            outcome: Outcome::Completed(completion.credential.id.clone()),
            reason: Reason::new(Problem::CompletedAlready, ""),
            at_ms: completion.at_ms,
        };
        let row = transition::update(&mut transaction, current, Change::complete(end)).await?;
        let entry = timeline::append(&mut transaction, completion.session, event, self.settings(), u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, entry) else {
            return Err(query(DOING)(sqlx::Error::RowNotFound));
        };
        transaction.commit().await.map_err(query(DOING))?;
        Ok(Completed::Stored { credential: Box::new(credential), row: Box::new(row), entry })
    }
}

async fn insert(
    connection: &mut AnyConnection,
    session: &SessionRow,
    completion: &Completion<'_>,
) -> Result<CredentialRow, StoreError> {
    let new = completion.credential;
    let key_id = new.sealed.key_id();
    sqlx::query(
        "INSERT INTO credentials (id, owner, user_id, provider, session_id, sealed, key_id, files, stored_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(new.id.as_str())
    .bind(session.owner.as_str())
    .bind(session.user_id.as_deref())
    .bind(session.provider.as_str())
    .bind(session.id.as_str())
    .bind(new.sealed.as_bytes())
    .bind(i64::from(key_id.0))
    .bind(credentials::files_as_text(new.files))
    .bind(stored(completion.at_ms))
    .execute(connection)
    .await
    .map_err(query(DOING))?;
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
    })
}
