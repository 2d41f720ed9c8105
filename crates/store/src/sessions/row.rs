//! A session's row: what is stored, and how it is read.

use crate::{SessionPurpose, Sha256Hex, StoreError, UnixMs, row::RowReader, text_enum::text_enum};
use anteroom_wire::{CallerId, CredentialId, MachineId, Problem, ProviderId, SessionId, provider::MethodName};
use sqlx::any::AnyRow;

text_enum! {
    /// A session's state as the database has it.
    pub(crate) enum State {
        /// Not ended.
        Active = "active",
        /// A credential is stored.
        Completed = "completed",
        /// Ended by a fault.
        Failed = "failed",
        /// Ended by its owner.
        Cancelled = "cancelled",
        /// Ended by a deadline.
        Expired = "expired",
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Who started it.
    pub owner: CallerId,
    /// The owner's name for the person.
    pub user_id: Option<String>,
    /// The tool.
    pub provider: ProviderId,
    /// Where the page sends the person at the end.
    pub return_url: Option<String>,
    /// Whether it lives, or how it ended.
    pub status: RowStatus,
    /// Counts the transitions: 0 when started.
    pub epoch: u64,
    /// Which machine this is: 1 for the first.
    pub generation: u32,
    /// The machine that was asked for last; stays when the session ends.
    pub machine: Option<MachineId>,
    /// The hash of that machine's token.
    pub agent_token: Option<Sha256Hex>,
    /// The generation whose machine was claimed.
    pub claimed_generation: Option<u32>,
    /// Whether the tool runs in it.
    pub cli_started: bool,
    /// When it was started.
    pub created_at_ms: UnixMs,
    /// When somebody last used it.
    pub last_used_at_ms: UnixMs,
    /// When it ends if nobody uses it.
    pub idle_deadline_ms: Option<UnixMs>,
    /// When it ends whatever happens.
    pub deadline_ms: UnixMs,
    /// The external machine that it uses, by its name; `None`: machines of this host.
    pub external_machine: Option<String>,
    /// The method that the tool is being signed in by; `None`: the preferred one.
    pub method: Option<MethodName>,
    /// What it is for.
    pub purpose: SessionPurpose,
    /// How the command with a stored credential ended: exit code, or 128 + signal; `None`: it has not.
    pub exit_code: Option<i32>,
}

/// Whether a session lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowStatus {
    /// Not ended.
    Active {
        /// Why the last machine ended, while another takes its place.
        replacement_reason: Option<Reason>,
    },
    /// Ended: nothing of the row changes any more.
    Ended(End),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Well, or how else.
    pub outcome: SessionOutcome,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at_ms: UnixMs,
}

/// The ways a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutcome {
    /// This credential is stored (it may have been deleted since).
    Completed(CredentialId),
    /// By a fault.
    Failed,
    /// By its owner.
    Cancelled,
    /// By a deadline.
    Expired,
}

/// A cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which; carries code, sentence and remedy.
    pub problem: Problem,
    /// What is particular to this case.
    pub detail: Option<String>,
}

impl Reason {
    /// A cause with what is particular to this case (`""`: nothing).
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { problem, detail: (!detail.is_empty()).then_some(detail) }
    }
}

impl SessionRow {
    /// Whether it has not ended.
    pub fn is_active(&self) -> bool {
        self.end().is_none()
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match &self.status {
            RowStatus::Active { .. } => None,
            RowStatus::Ended(end) => Some(end),
        }
    }

    /// The credential it completed with.
    pub fn credential(&self) -> Option<&CredentialId> {
        match &self.end()?.outcome {
            SessionOutcome::Completed(credential) => Some(credential),
            SessionOutcome::Failed | SessionOutcome::Cancelled | SessionOutcome::Expired => None,
        }
    }

    /// Why it ended, or why its machine is being replaced.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.status {
            RowStatus::Active { replacement_reason } => replacement_reason.as_ref(),
            RowStatus::Ended(end) => Some(&end.reason),
        }
    }

    /// The word of [`SessionRow::life`].
    pub(crate) fn state(&self) -> State {
        match self.end().map(|end| &end.outcome) {
            None => State::Active,
            Some(SessionOutcome::Completed(_)) => State::Completed,
            Some(SessionOutcome::Failed) => State::Failed,
            Some(SessionOutcome::Cancelled) => State::Cancelled,
            Some(SessionOutcome::Expired) => State::Expired,
        }
    }
}

pub(super) fn decode(row: &AnyRow) -> Result<SessionRow, StoreError> {
    let reader = RowReader::new(row, "sessions", "id");
    Ok(SessionRow {
        id: reader.parsed("id")?,
        owner: reader.parsed("caller_id")?,
        user_id: reader.text_or_null("user_id")?,
        provider: reader.parsed("provider")?,
        return_url: reader.text_or_null("return_url")?,
        status: status(&reader)?,
        epoch: reader.number("epoch")?,
        generation: reader.number("generation")?,
        machine: reader.parsed_or_null("machine_id")?,
        agent_token: reader.parsed_or_null("agent_token_hash")?,
        claimed_generation: reader.number_or_null("claimed_generation")?,
        cli_started: reader.number::<u8>("cli_started")? != 0,
        created_at_ms: reader.number("created_at_ms")?,
        last_used_at_ms: reader.number("last_used_at_ms")?,
        idle_deadline_ms: reader.number_or_null("idle_deadline_ms")?,
        deadline_ms: reader.number("deadline_ms")?,
        external_machine: reader.text_or_null("external_machine")?,
        method: method(&reader)?,
        purpose: SessionPurpose::decode(&reader)?,
        exit_code: reader.number_or_null("exit_code")?,
    })
}

/// A method's name in a row.
pub(crate) fn method(reader: &RowReader<'_>) -> Result<Option<MethodName>, StoreError> {
    let text = reader.text_or_null("method")?;
    text.map(|text| MethodName::try_from(text).map_err(|error| reader.corrupt(format!("method: {error}"))))
        .transpose()
}

fn status(reader: &RowReader<'_>) -> Result<RowStatus, StoreError> {
    let reason = match reader.text_or_null("reason_code")? {
        None => None,
        Some(code) => {
            let problem = Problem::from_code(&code);
            let problem =
                problem.ok_or_else(|| reader.corrupt(format!("reason_code: {code:?} is not known here")))?;
            Some(Reason { problem, detail: reader.text_or_null("reason_detail")? })
        }
    };
    let ended_at = reader.number_or_null("ended_at_ms")?;
    let credential = reader.parsed_or_null("credential_id")?;
    let outcome = match (reader.parsed::<State>("state")?, credential) {
        (State::Active, None) => {
            let none = ended_at.is_none();
            return none
                .then_some(RowStatus::Active { replacement_reason: reason })
                .ok_or_else(|| reader.corrupt("active, and ended"));
        }
        (State::Completed, Some(credential)) => SessionOutcome::Completed(credential),
        (State::Failed, None) => SessionOutcome::Failed,
        (State::Cancelled, None) => SessionOutcome::Cancelled,
        (State::Expired, None) => SessionOutcome::Expired,
        (State::Completed, None) => return Err(reader.corrupt("completed without a credential")),
        (State::Active | State::Failed | State::Cancelled | State::Expired, Some(_)) => {
            return Err(reader.corrupt("a credential, and not completed"));
        }
    };
    match (reason, ended_at) {
        (Some(reason), Some(at_ms)) => Ok(RowStatus::Ended(End { outcome, reason, at_ms })),
        (None, _) | (_, None) => Err(reader.corrupt("ended without saying when and why")),
    }
}
