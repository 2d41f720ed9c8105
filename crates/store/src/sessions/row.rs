//! A session's row: what is stored, and how it is read.

use crate::{Aim, Sha256Hex, StoreError, UnixMs, cells::Cells, words::words};
use anteroom_wire::{CallerId, CredentialId, MachineId, Problem, ProviderId, SessionId, provider::MethodName};
use sqlx::any::AnyRow;

words! {
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
    pub life: Life,
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
    pub aim: Aim,
    /// How the command with a stored credential ended: exit code, or 128 + signal; `None`: it has not.
    pub exit_code: Option<i32>,
}

/// Whether a session lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Not ended.
    Active {
        /// Why the last machine ended, while another takes its place.
        setback: Option<Reason>,
    },
    /// Ended: nothing of the row changes any more.
    Ended(End),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Well, or how else.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at_ms: UnixMs,
}

/// The ways a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
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
        match &self.life {
            Life::Active { .. } => None,
            Life::Ended(end) => Some(end),
        }
    }

    /// The credential it completed with.
    pub fn credential(&self) -> Option<&CredentialId> {
        match &self.end()?.outcome {
            Outcome::Completed(credential) => Some(credential),
            Outcome::Failed | Outcome::Cancelled | Outcome::Expired => None,
        }
    }

    /// Why it ended, or why its machine is being replaced.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.life {
            Life::Active { setback } => setback.as_ref(),
            Life::Ended(end) => Some(&end.reason),
        }
    }

    /// The word of [`SessionRow::life`].
    pub(crate) fn state(&self) -> State {
        match self.end().map(|end| &end.outcome) {
            None => State::Active,
            Some(Outcome::Completed(_)) => State::Completed,
            Some(Outcome::Failed) => State::Failed,
            Some(Outcome::Cancelled) => State::Cancelled,
            Some(Outcome::Expired) => State::Expired,
        }
    }
}

pub(super) fn decode(row: &AnyRow) -> Result<SessionRow, StoreError> {
    let cells = Cells::new(row, "sessions", "id");
    Ok(SessionRow {
        id: cells.parsed("id")?,
        owner: cells.parsed("caller_id")?,
        user_id: cells.text_or_null("user_id")?,
        provider: cells.parsed("provider")?,
        return_url: cells.text_or_null("return_url")?,
        life: life(&cells)?,
        epoch: cells.number("epoch")?,
        generation: cells.number("generation")?,
        machine: cells.parsed_or_null("machine_id")?,
        agent_token: cells.parsed_or_null("agent_token_hash")?,
        claimed_generation: cells.number_or_null("claimed_generation")?,
        cli_started: cells.number::<u8>("cli_started")? != 0,
        created_at_ms: cells.number("created_at_ms")?,
        last_used_at_ms: cells.number("last_used_at_ms")?,
        idle_deadline_ms: cells.number_or_null("idle_deadline_ms")?,
        deadline_ms: cells.number("deadline_ms")?,
        external_machine: cells.text_or_null("external_machine")?,
        method: method(&cells)?,
        aim: Aim::decode(&cells)?,
        exit_code: cells.number_or_null("exit_code")?,
    })
}

/// A method's name in a row.
pub(crate) fn method(cells: &Cells<'_>) -> Result<Option<MethodName>, StoreError> {
    let text = cells.text_or_null("method")?;
    text.map(|text| MethodName::try_from(text).map_err(|error| cells.impossible(format!("method: {error}"))))
        .transpose()
}

fn life(cells: &Cells<'_>) -> Result<Life, StoreError> {
    let reason = match cells.text_or_null("reason_code")? {
        None => None,
        Some(code) => {
            let problem = Problem::from_code(&code);
            let problem =
                problem.ok_or_else(|| cells.impossible(format!("reason_code: {code:?} is not known here")))?;
            Some(Reason { problem, detail: cells.text_or_null("reason_detail")? })
        }
    };
    let ended_at = cells.number_or_null("ended_at_ms")?;
    let credential = cells.parsed_or_null("credential_id")?;
    let outcome = match (cells.parsed::<State>("state")?, credential) {
        (State::Active, None) => {
            let none = ended_at.is_none();
            return none
                .then_some(Life::Active { setback: reason })
                .ok_or_else(|| cells.impossible("active, and ended"));
        }
        (State::Completed, Some(credential)) => Outcome::Completed(credential),
        (State::Failed, None) => Outcome::Failed,
        (State::Cancelled, None) => Outcome::Cancelled,
        (State::Expired, None) => Outcome::Expired,
        (State::Completed, None) => return Err(cells.impossible("completed without a credential")),
        (State::Active | State::Failed | State::Cancelled | State::Expired, Some(_)) => {
            return Err(cells.impossible("a credential, and not completed"));
        }
    };
    match (reason, ended_at) {
        (Some(reason), Some(at_ms)) => Ok(Life::Ended(End { outcome, reason, at_ms })),
        (None, _) | (_, None) => Err(cells.impossible("ended without saying when and why")),
    }
}
