//! Transitions: every change of a session is conditional and is written in one transaction with its timeline entry.

use crate::{
    NewMessage, NewTimelineEntry, ObservedWrite, Reason, RowStatus, SessionEnd, SessionOutcome, SessionPurpose,
    SessionRow, Sha256Hex, Store, StoreError, TimelineRow, UnixMs, WriteKind,
    connection::Connection,
    dialect::WriteScope,
    error::query_error,
    outbox,
    row_macs::{RowMacs, tables::SESSIONS},
    row_reader::to_sql_integer,
    sessions, timeline,
};
use anteroom_wire::{EndReason, MachineId, SessionId, provider::MethodName};
use std::collections::BTreeMap;

const OPERATION: &str = "change a session";

/// The expected state of the session. A session that has ended never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedState {
    /// Active, at any epoch.
    Active,
    /// Active, and still at this epoch.
    Epoch(u64),
    /// Active, and waiting for a host of the cluster: no host holds it, and each may change it.
    Waiting,
}

/// The changed values; all others stay. Completion is not included: see [`Store::complete_with_credential`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionChange {
    generation: Option<u32>,
    machine: Option<Option<MachineId>>,
    agent_token: Option<Option<Sha256Hex>>,
    claimed_generation: Option<Option<u32>>,
    cli_started: Option<bool>,
    replacement_reason: Option<Option<Reason>>,
    idle_deadline_ms: Option<Option<UnixMs>>,
    deadline_ms: Option<UnixMs>,
    method: Option<MethodName>,
    settings: Option<BTreeMap<String, String>>,
    used_revision: Option<u64>,
    exit_code: Option<i32>,
    end: Option<SessionEnd>,
    messages: Vec<NewMessage>,
}

impl SessionChange {
    /// A change of nothing but the epoch and the timeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the generation of the machine: 1 for the first.
    #[must_use]
    pub fn with_generation(mut self, generation: u32) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Sets the requested machine; `None`: there is none.
    #[must_use]
    pub fn with_machine(mut self, machine: Option<MachineId>) -> Self {
        self.machine = Some(machine);
        self
    }

    /// Sets the hash of that machine's agent token; `None`: no machine may deliver.
    #[must_use]
    pub fn with_agent_token(mut self, hash: Option<Sha256Hex>) -> Self {
        self.agent_token = Some(hash);
        self
    }

    /// Sets the generation whose machine was claimed.
    #[must_use]
    pub fn with_claimed_generation(mut self, generation: Option<u32>) -> Self {
        self.claimed_generation = Some(generation);
        self
    }

    /// Sets whether the tool runs.
    #[must_use]
    pub fn with_cli_started(mut self, started: bool) -> Self {
        self.cli_started = Some(started);
        self
    }

    /// Sets why the machine is being replaced; `None`: it is not being replaced any more.
    #[must_use]
    pub fn with_replacement_reason(mut self, reason: Option<Reason>) -> Self {
        self.replacement_reason = Some(reason);
        self
    }

    /// Sets when the session ends unless it is used before.
    #[must_use]
    pub fn with_idle_deadline(mut self, at_ms: Option<UnixMs>) -> Self {
        self.idle_deadline_ms = Some(at_ms);
        self
    }

    /// Sets when the session ends at the latest.
    #[must_use]
    pub fn with_deadline(mut self, at_ms: UnixMs) -> Self {
        self.deadline_ms = Some(at_ms);
        self
    }

    /// Sets the sign-in method.
    #[must_use]
    pub fn with_method(mut self, method: MethodName) -> Self {
        self.method = Some(method);
        self
    }

    /// Sets the provider's settings, id → value.
    #[must_use]
    pub fn with_settings(mut self, settings: BTreeMap<String, String>) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets the revision of the used credential in the machine. No effect for a session that does not use one.
    #[must_use]
    pub fn with_used_revision(mut self, revision: u64) -> Self {
        self.used_revision = Some(revision);
        self
    }

    /// Enqueues a webhook message with this change.
    #[must_use]
    pub fn with_webhook_message(mut self, message: NewMessage) -> Self {
        self.messages.push(message);
        self
    }

    /// Ends the session by a fault.
    #[must_use]
    pub fn end_as_failed(mut self, reason: Reason, at_ms: UnixMs) -> Self {
        self.end = Some(SessionEnd { outcome: SessionOutcome::Failed, reason, at_ms });
        self
    }

    /// Ends the session by its owner.
    #[must_use]
    pub fn end_as_cancelled(mut self, reason: Reason, at_ms: UnixMs) -> Self {
        self.end = Some(SessionEnd { outcome: SessionOutcome::Cancelled, reason, at_ms });
        self
    }

    /// Ends the session by a deadline.
    #[must_use]
    pub fn end_as_expired(mut self, reason: Reason, at_ms: UnixMs) -> Self {
        self.end = Some(SessionEnd { outcome: SessionOutcome::Expired, reason, at_ms });
        self
    }

    /// Completes the session; only for the transaction that stores the credential.
    pub(crate) fn complete(end: SessionEnd) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    /// Completes a credential use with the exit code of its command.
    pub(crate) fn complete_use(end: SessionEnd, exit_code: i32) -> Self {
        Self { end: Some(end), exit_code: Some(exit_code), ..Self::default() }
    }

    /// The row after the change.
    fn apply(self, mut row: SessionRow) -> SessionRow {
        row.epoch += 1;
        row.generation = self.generation.unwrap_or(row.generation);
        row.machine = self.machine.unwrap_or(row.machine);
        row.agent_token = self.agent_token.unwrap_or(row.agent_token);
        row.claimed_generation = self.claimed_generation.unwrap_or(row.claimed_generation);
        row.cli_started = self.cli_started.unwrap_or(row.cli_started);
        row.idle_deadline_ms = self.idle_deadline_ms.unwrap_or(row.idle_deadline_ms);
        row.deadline_ms = self.deadline_ms.unwrap_or(row.deadline_ms);
        row.method = self.method.or(row.method);
        row.settings = self.settings.unwrap_or(row.settings);
        row.exit_code = self.exit_code.or(row.exit_code);
        if let (SessionPurpose::UseCredential(using), Some(revision)) = (&mut row.purpose, self.used_revision) {
            using.revision = revision;
        }
        row.status = match (self.end, self.replacement_reason) {
            (Some(end), _) => RowStatus::Ended(end),
            (None, Some(replacement_reason)) => RowStatus::Active { replacement_reason },
            (None, None) => row.status,
        };
        row
    }
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum TransitionOutcome {
    /// The session was changed.
    Done {
        /// The session after the change.
        row: Box<SessionRow>,
        /// Its timeline entry.
        entry: TimelineRow,
    },
    /// The session has ended or is at another epoch; nothing was changed. The present session.
    Conflict(Box<SessionRow>),
}

impl Store {
    /// Changes a session and appends its timeline entry in one transaction, if the session is in the expected state.
    ///
    /// # Errors
    /// When there is no such session, its row was changed outside of this program, another host holds it, or the database cannot be
    /// written; then nothing was changed.
    pub async fn transition(
        &self,
        session: &SessionId,
        expect: ExpectedState,
        change: SessionChange,
        entry: NewTimelineEntry,
    ) -> Result<TransitionOutcome, StoreError> {
        let mut transaction = self
            .begin_write_in(
                WriteScope::Session(session),
                ObservedWrite::with_entry(WriteKind::Transition, entry.kind),
                OPERATION,
            )
            .await?;
        let current = sessions::fetch_existing_session(self.row_macs(), &mut transaction, session).await?;
        let epoch_fits = match expect {
            ExpectedState::Active => true,
            ExpectedState::Waiting => current.holder.is_none(),
            ExpectedState::Epoch(epoch) => epoch == current.epoch,
        };
        if !current.is_active() || !epoch_fits {
            transaction.finish_unchanged();
            return Ok(TransitionOutcome::Conflict(Box::new(current)));
        }
        if expect != ExpectedState::Waiting && !self.may_write(&current) {
            return Err(self.refuse(transaction, session));
        }
        let messages = change.messages.clone();
        let Some(row) = apply_change(self.row_macs(), &mut transaction, current, change).await? else {
            let now = sessions::fetch_existing_session(self.row_macs(), &mut transaction, session).await?;
            transaction.finish_unchanged();
            return Ok(TransitionOutcome::Conflict(Box::new(now)));
        };
        let outcome = timeline::append_entry_in(&mut transaction, session, entry, self, u64::MAX).await?;
        let Some(entry) = outcome.into_row() else { return Err(query_error(OPERATION)(sqlx::Error::RowNotFound)) };
        outbox::enqueue_messages(&mut transaction, &messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(TransitionOutcome::Done { row: Box::new(row), entry })
    }
}

impl Store {
    /// Ends an active session whose row was changed outside of this program, without looking at the row, whose MAC stays invalid. Appends
    /// the timeline entry. Returns whether it was active.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing was changed.
    pub async fn end_tampered_session(
        &self,
        session: &SessionId,
        at_ms: UnixMs,
        entry: NewTimelineEntry,
    ) -> Result<bool, StoreError> {
        let write = ObservedWrite::with_entry(WriteKind::Transition, entry.kind);
        let mut transaction = self.begin_write_in(WriteScope::Session(session), write, OPERATION).await?;
        let done = sqlx::query(
            "UPDATE sessions SET state = 'failed', reason_code = $3, reason_detail = NULL, ended_at_ms = $2, credential_id = NULL, \
             exit_code = NULL WHERE id = $1 AND state = 'active'",
        )
        .bind(session.as_str())
        .bind(to_sql_integer(at_ms))
        .bind(EndReason::SessionTampered.code())
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(false);
        }
        timeline::append_entry_in(&mut transaction, session, entry, self, u64::MAX).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }
}

/// Writes the change of `current`, whose MAC is valid; `None`: the database has another epoch by now.
pub(crate) async fn apply_change(
    macs: &RowMacs,
    connection: &mut Connection,
    current: SessionRow,
    change: SessionChange,
) -> Result<Option<SessionRow>, StoreError> {
    let read_at = current.epoch;
    let row = change.apply(current);
    let reason = row.reason();
    let done = sqlx::query(
        "UPDATE sessions SET state = $3, reason_code = $4, reason_detail = $5, epoch = $6, generation = $7, machine_id = $8, \
         agent_token_hash = $9, claimed_generation = $10, cli_started = $11, idle_deadline_ms = $12, deadline_ms = $13, \
         ended_at_ms = $14, credential_id = $15, method = $16, used_revision = $17, exit_code = $18, settings = $19 \
         WHERE id = $1 AND epoch = $2 AND state = 'active'",
    )
    .bind(row.id.as_str())
    .bind(to_sql_integer(read_at))
    .bind(row.state_kind().as_str())
    .bind(reason.map(|reason| reason.kind.code()))
    .bind(reason.and_then(|reason| reason.detail.as_deref()))
    .bind(to_sql_integer(row.epoch))
    .bind(i64::from(row.generation))
    .bind(row.machine.as_ref().map(MachineId::as_str))
    .bind(row.agent_token.as_ref().map(Sha256Hex::as_str))
    .bind(row.claimed_generation.map(i64::from))
    .bind(i64::from(row.cli_started))
    .bind(row.idle_deadline_ms.map(to_sql_integer))
    .bind(to_sql_integer(row.deadline_ms))
    .bind(row.end().map(|end| to_sql_integer(end.at_ms)))
    .bind(row.credential().map(anteroom_wire::CredentialId::as_str))
    .bind(row.method.as_ref().map(MethodName::as_str))
    .bind(row.purpose.credential_use().map(|using| to_sql_integer(using.revision)))
    .bind(row.exit_code.map(i64::from))
    .bind(sessions::encode_settings(&row.settings))
    .execute(&mut *connection)
    .await
    .map_err(query_error(OPERATION))?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    macs.renew(connection, &SESSIONS, row.id.as_str().into()).await?;
    Ok(Some(row))
}
