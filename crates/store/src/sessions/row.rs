//! The row of a session.

use crate::{
    Holder, SessionPurpose, Sha256Hex, StoreError, UnixMs,
    callers::RoleKind,
    row_macs::{RowMacs, tables::SESSIONS},
    row_reader::RowReader,
    text_enum::text_enum,
};
use anteroom_wire::{CallerId, CredentialId, EndReason, MachineId, ProviderId, SessionId, provider::MethodName};
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

text_enum! {
    /// The state of a session in the database.
    pub(crate) enum SessionStateKind {
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
    /// The caller that started it.
    pub owner: CallerId,
    /// That caller's name, for people.
    pub owner_name: String,
    /// Whether it is a person who starts sessions for themselves.
    pub owner_is_user: bool,
    /// The owner's id for the user.
    pub user_id: Option<String>,
    /// The provider.
    pub provider: ProviderId,
    /// Where the page redirects the user at the end.
    pub return_url: Option<String>,
    /// Whether it is active, or how it ended.
    pub status: RowStatus,
    /// The number of transitions, 0 at the start.
    pub epoch: u64,
    /// The generation of the machine: 1 for the first.
    pub generation: u32,
    /// The machine that was requested last; stays when the session ends.
    pub machine: Option<MachineId>,
    /// The hash of that machine's agent token.
    pub agent_token: Option<Sha256Hex>,
    /// The generation whose machine was claimed.
    pub claimed_generation: Option<u32>,
    /// Whether the tool runs in it.
    pub cli_started: bool,
    /// When it was created.
    pub created_at_ms: UnixMs,
    /// When it was last used.
    pub last_used_at_ms: UnixMs,
    /// When it ends unless it is used before.
    pub idle_deadline_ms: Option<UnixMs>,
    /// When it ends at the latest.
    pub deadline_ms: UnixMs,
    /// The name of the external machine that it uses; `None`: machines of this host.
    pub external_machine: Option<String>,
    /// The present sign-in method; `None`: the preferred one.
    pub method: Option<MethodName>,
    /// Its purpose.
    pub purpose: SessionPurpose,
    /// Exit code of the command with a stored credential, or 128 + signal; `None`: it has not exited.
    pub exit_code: Option<i32>,
    /// The provider's settings that were given, id → value.
    pub settings: BTreeMap<String, String>,
    /// The host of the cluster that holds it; `None`: it waits for one, or there is no cluster.
    pub holder: Option<Holder>,
    /// Since when it waits for a host of the cluster, or waited for its present one; `None`: it never did.
    pub queued_at_ms: Option<UnixMs>,
    /// What a host needs to take it, as JSON; `None`: any host can.
    pub placement: Option<String>,
}

/// Whether a session is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowStatus {
    /// Not ended.
    Active {
        /// Why the last machine ended, while it is being replaced.
        replacement_reason: Option<Reason>,
    },
    /// Ended: the row does not change any more.
    Ended(SessionEnd),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// The outcome.
    pub outcome: SessionOutcome,
    /// Why it ended.
    pub reason: Reason,
    /// When it ended.
    pub at_ms: UnixMs,
}

/// The outcome of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutcome {
    /// Completed with this credential, which may have been deleted since.
    Completed(CredentialId),
    /// By a fault.
    Failed,
    /// By its owner.
    Cancelled,
    /// By a deadline.
    Expired,
}

/// Why a session ended, or why its machine is being replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The reason, with its code, sentence and remedy.
    pub kind: EndReason,
    /// The details of this case.
    pub detail: Option<String>,
}

impl Reason {
    /// A reason with the details of this case; `""`: no details.
    pub fn new(kind: EndReason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail: (!detail.is_empty()).then_some(detail) }
    }
}

impl SessionRow {
    /// Whether it is active.
    pub fn is_active(&self) -> bool {
        self.end().is_none()
    }

    /// Whether it is active and waits for a host of the cluster.
    pub fn waits_for_host(&self) -> bool {
        self.is_active() && self.holder.is_none() && self.queued_at_ms.is_some()
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&SessionEnd> {
        match &self.status {
            RowStatus::Active { .. } => None,
            RowStatus::Ended(end) => Some(end),
        }
    }

    /// The credential with which it completed.
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

    /// The name of [`SessionRow::status`].
    pub(crate) fn state_kind(&self) -> SessionStateKind {
        match self.end().map(|end| &end.outcome) {
            None => SessionStateKind::Active,
            Some(SessionOutcome::Completed(_)) => SessionStateKind::Completed,
            Some(SessionOutcome::Failed) => SessionStateKind::Failed,
            Some(SessionOutcome::Cancelled) => SessionStateKind::Cancelled,
            Some(SessionOutcome::Expired) => SessionStateKind::Expired,
        }
    }
}

/// # Errors
/// The row was changed outside of this program, or has values that it cannot have written.
pub(super) fn decode_session_row(macs: &RowMacs, row: &AnyRow) -> Result<SessionRow, StoreError> {
    macs.verify(&SESSIONS, row)?;
    decode_unverified(row)
}

/// As [`decode_session_row`], of a row that this transaction has written.
pub(super) fn decode_unverified(row: &AnyRow) -> Result<SessionRow, StoreError> {
    let reader = RowReader::new(row, "sessions", "id");
    Ok(SessionRow {
        id: reader.parsed("id")?,
        owner: reader.parsed("caller_id")?,
        owner_name: reader.text("owner_name")?,
        owner_is_user: reader.parsed::<RoleKind>("owner_role")? == RoleKind::User,
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
        method: decode_method(&reader)?,
        purpose: SessionPurpose::decode(&reader)?,
        exit_code: reader.number_or_null("exit_code")?,
        settings: decode_settings(&reader)?,
        holder: Holder::decode(&reader)?,
        queued_at_ms: reader.number_or_null("queued_at_ms")?,
        placement: reader.text_or_null("placement")?,
    })
}

/// The settings in the column; `None`: there are none.
pub(crate) fn encode_settings(settings: &BTreeMap<String, String>) -> Option<String> {
    (!settings.is_empty()).then(|| serde_json::json!(settings).to_string())
}

fn decode_settings(reader: &RowReader<'_>) -> Result<BTreeMap<String, String>, StoreError> {
    let Some(text) = reader.text_or_null("settings")? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|error| reader.corrupt_row_error(format!("settings: {error}")))
}

/// Reads the name of a method.
pub(crate) fn decode_method(reader: &RowReader<'_>) -> Result<Option<MethodName>, StoreError> {
    let text = reader.text_or_null("method")?;
    text.map(|text| MethodName::try_from(text).map_err(|error| reader.corrupt_row_error(format!("method: {error}"))))
        .transpose()
}

fn status(reader: &RowReader<'_>) -> Result<RowStatus, StoreError> {
    let reason = match reader.text_or_null("reason_code")? {
        None => None,
        Some(code) => {
            let kind = EndReason::from_code(&code);
            let kind = kind.ok_or_else(|| reader.corrupt_row_error(format!("reason_code: {code:?} is unknown")))?;
            Some(Reason { kind, detail: reader.text_or_null("reason_detail")? })
        }
    };
    let ended_at = reader.number_or_null("ended_at_ms")?;
    let credential = reader.parsed_or_null("credential_id")?;
    let outcome = match (reader.parsed::<SessionStateKind>("state")?, credential) {
        (SessionStateKind::Active, None) => {
            let none = ended_at.is_none();
            return none
                .then_some(RowStatus::Active { replacement_reason: reason })
                .ok_or_else(|| reader.corrupt_row_error("active, and ended"));
        }
        (SessionStateKind::Completed, Some(credential)) => SessionOutcome::Completed(credential),
        (SessionStateKind::Failed, None) => SessionOutcome::Failed,
        (SessionStateKind::Cancelled, None) => SessionOutcome::Cancelled,
        (SessionStateKind::Expired, None) => SessionOutcome::Expired,
        (SessionStateKind::Completed, None) => return Err(reader.corrupt_row_error("completed without a credential")),
        (
            SessionStateKind::Active
            | SessionStateKind::Failed
            | SessionStateKind::Cancelled
            | SessionStateKind::Expired,
            Some(_),
        ) => {
            return Err(reader.corrupt_row_error("a credential, and not completed"));
        }
    };
    match (reason, ended_at) {
        (Some(reason), Some(at_ms)) => Ok(RowStatus::Ended(SessionEnd { outcome, reason, at_ms })),
        (None, _) | (_, None) => Err(reader.corrupt_row_error("ended without a time and a reason")),
    }
}
