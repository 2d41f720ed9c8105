//! A use of a stored credential ends well: its session is completed, with the credential that it used.

use crate::{
    End, NewEvent, NewMessage, SessionOutcome, Reason, SessionRow, Sha256Hex, Store, StoreError, TimelineRow, UnixMs, Write,
    WriteKind, outbox, sessions,
    error::query_error,
    timeline,
    transition::{self, Change},
};
use anteroom_wire::{Problem, SessionId};

const OPERATION: &str = "end the use of a credential";

/// A command that has ended.
#[derive(Debug, Clone, Copy)]
pub struct CompleteUse<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that says so.
    pub generation: u32,
    /// The hash of its token.
    pub agent_token: &'a Sha256Hex,
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// Who else is to be told, in the same transaction.
    pub messages: &'a [NewMessage],
    /// Now.
    pub at_ms: UnixMs,
}

/// What became of the end of a use.
#[derive(Debug, Clone, PartialEq)]
pub enum UseOutcome {
    /// The session is completed.
    Completed {
        /// The session after it.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
    },
    /// The session had ended before; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's present machine; nothing was changed.
    WrongToken,
}

impl Store {
    /// Ends a session that uses a credential as completed, for the reason [`Problem::UseCompleted`], if its present machine says so and it
    /// is active. Whether the credential was deleted meanwhile does not matter.
    ///
    /// # Errors
    /// When there is no such session, it uses no credential (conflict), or the database cannot be written; then nothing was changed.
    pub async fn complete_use(&self, over: &CompleteUse<'_>, event: NewEvent) -> Result<UseOutcome, StoreError> {
        let mut transaction = self.begin(Write::with_event(WriteKind::CompleteUse, &event.kind), OPERATION).await?;
        let current = sessions::expect(&mut transaction, over.session).await?;
        if current.agent_token.as_ref() != Some(over.agent_token) || current.generation != over.generation {
            transaction.unchanged();
            return Ok(UseOutcome::WrongToken);
        }
        if !current.is_active() {
            transaction.unchanged();
            return Ok(UseOutcome::Ignored(Box::new(current)));
        }
        let Some(used) = current.purpose.credential_use().map(|using| using.credential.clone()) else {
            transaction.unchanged();
            return Err(StoreError::WrongPurpose(over.session.clone()));
        };
        let reason = Reason::new(Problem::UseCompleted, "");
        let end = End { outcome: SessionOutcome::Completed(used), reason, at_ms: over.at_ms };
        let change = Change::complete_use(end, over.exit_code);
        let row = transition::update(&mut transaction, current, change).await?;
        let entry = timeline::append(&mut transaction, over.session, event, self.settings(), u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, entry) else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        outbox::enqueue(&mut transaction, over.messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(UseOutcome::Completed { row: Box::new(row), entry })
    }
}
