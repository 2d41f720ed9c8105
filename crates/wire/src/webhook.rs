//! What a webhook is told. Signed as Standard Webhooks describes it: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! A message may come more than once with the same `webhook-id`; messages of one session come in their order. A receiver answers with
//! 2xx when it has what it was told; anything else, or no answer, and it is told again.

use crate::{
    ProviderId, SessionId,
    agent::DeliveredFile,
    api::{CredentialMeta, Reason, Status},
};
use serde::{Deserialize, Serialize};

/// A credential was stored.
pub const CREDENTIAL_STORED: &str = "credential.stored";
/// A session has ended, well or otherwise.
pub const SESSION_ENDED: &str = "session.ended";
/// A stored credential ends soon, as it says itself.
pub const CREDENTIAL_EXPIRING: &str = "credential.expiring";
/// A stored credential has ended, as it says itself: sign in again.
pub const CREDENTIAL_NEEDS_AUTH: &str = "credential.needs_auth";

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// What happened ([`CREDENTIAL_STORED`], [`SESSION_ENDED`], [`CREDENTIAL_EXPIRING`], [`CREDENTIAL_NEEDS_AUTH`]).
    #[serde(rename = "type")]
    pub kind: String,
    /// When, RFC 3339.
    pub timestamp: String,
    /// To what.
    pub data: NotificationData,
}

/// What a message is about, as it is when the message is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NotificationData {
    /// The session.
    pub session: Option<SessionSummary>,
    /// The credential; `null` when it was deleted since.
    pub credential: Option<CredentialMeta>,
    /// The files, byte for byte, of a credential that is handed out once, where the configuration says so: the 2xx answer to this is
    /// that one handing out. Else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<DeliveredFile>>,
}

/// A session, for a receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// The tool.
    pub provider: ProviderId,
    /// The method by which it was signed in.
    pub method: String,
    /// The caller's own name for the person.
    pub user_id: Option<String>,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}
