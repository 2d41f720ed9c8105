//! Completes a session that used a stored credential.

use crate::{
    NewMessage, NewTimelineEntry, ObservedWrite, Reason, SessionEnd, SessionOutcome, SessionRow, Sha256Hex, Store,
    StoreError, TimelineRow, UnixMs, WriteKind,
    error::query_error,
    outbox, sessions, timeline,
    transition::{self, SessionChange},
};
use anteroom_wire::{EndReason, SessionId};

const OPERATION: &str = "complete the use of a credential";

/// The completion of a credential use: its command has exited.
#[derive(Debug, Clone, Copy)]
pub struct CompleteUse<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The generation of the machine that reports it.
    pub generation: u32,
    /// The hash of that machine's agent token.
    pub agent_token: &'a Sha256Hex,
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// Webhook messages to enqueue in the same transaction.
    pub webhook_messages: &'a [NewMessage],
    /// The current time.
    pub at_ms: UnixMs,
}

/// The result of completing a credential use.
#[derive(Debug, Clone, PartialEq)]
pub enum CompleteUseOutcome {
    /// The session is completed.
    Completed {
        /// The session after the change.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
    },
    /// The session had already ended; nothing was changed.
    Ignored(Box<SessionRow>),
    /// The token is not the one of the session's current machine; nothing was changed.
    WrongToken,
}

impl Store {
    /// Completes an active session that uses a credential, with the reason [`EndReason::UseCompleted`], if the report comes from its
    /// present machine. The credential may have been deleted in the meantime.
    ///
    /// # Errors
    /// When there is no such session, it does not use a credential (conflict), or the database cannot be written; then nothing was changed.
    pub async fn complete_use(
        &self,
        completion: &CompleteUse<'_>,
        entry: NewTimelineEntry,
    ) -> Result<CompleteUseOutcome, StoreError> {
        let mut transaction =
            self.begin_write(ObservedWrite::with_entry(WriteKind::CompleteUse, entry.kind), OPERATION).await?;
        let current = sessions::fetch_existing_session(self.row_macs(), &mut transaction, completion.session).await?;
        if current.agent_token.as_ref() != Some(completion.agent_token) || current.generation != completion.generation {
            transaction.finish_unchanged();
            return Ok(CompleteUseOutcome::WrongToken);
        }
        if !current.is_active() {
            transaction.finish_unchanged();
            return Ok(CompleteUseOutcome::Ignored(Box::new(current)));
        }
        if !self.may_write(&current) {
            return Err(self.refuse(transaction, completion.session));
        }
        let Some(used) = current.purpose.credential_use().map(|credential_use| credential_use.credential.clone())
        else {
            transaction.finish_unchanged();
            return Err(StoreError::WrongPurpose(completion.session.clone()));
        };
        let reason = Reason::new(EndReason::UseCompleted, "");
        let end = SessionEnd { outcome: SessionOutcome::Completed(used), reason, at_ms: completion.at_ms };
        let change = SessionChange::complete_use(end, completion.exit_code);
        let row = transition::apply_change(self.row_macs(), &mut transaction, current, change).await?;
        let outcome = timeline::append_entry_in(&mut transaction, completion.session, entry, self, u64::MAX).await?;
        let (Some(row), Some(entry)) = (row, outcome.into_row()) else {
            return Err(query_error(OPERATION)(sqlx::Error::RowNotFound));
        };
        outbox::enqueue_messages(&mut transaction, completion.webhook_messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(CompleteUseOutcome::Completed { row: Box::new(row), entry })
    }
}
