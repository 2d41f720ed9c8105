//! Webhook messages, signed as specified by Standard Webhooks: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! A message may be sent more than once with the same `webhook-id`; messages of one session are sent in order. A receiver answers
//! with 2xx when it has processed the message; after any other answer, or none, the message is sent again.

use crate::{
    ProviderId, SessionId,
    agent::DeliveredFile,
    api::{CredentialMeta, Reason, SessionStatus},
};
use serde::{Deserialize, Serialize};

/// A credential was stored.
pub const CREDENTIAL_STORED: &str = "credential.stored";
/// A session has ended.
pub const SESSION_ENDED: &str = "session.ended";
/// A stored credential expires soon.
pub const CREDENTIAL_EXPIRING: &str = "credential.expiring";
/// A stored credential has expired or was rejected by its tool: sign in again.
pub const CREDENTIAL_NEEDS_AUTH: &str = "credential.needs_auth";

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookNotification {
    /// The type ([`CREDENTIAL_STORED`], [`SESSION_ENDED`], [`CREDENTIAL_EXPIRING`], [`CREDENTIAL_NEEDS_AUTH`]).
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, RFC 3339.
    pub timestamp: String,
    /// The affected session and credential.
    pub data: NotificationData,
}

/// The session and credential of a message, read when the message is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NotificationData {
    /// The session.
    pub session: Option<SessionSummary>,
    /// The credential; `null` if it was deleted in the meantime.
    pub credential: Option<CredentialMeta>,
    /// The files of a `deliver_once` credential, byte for byte, if the configuration enables it: the 2xx answer completes that one
    /// delivery. Otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<DeliveredFile>>,
}

/// A session in a webhook message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// The provider.
    pub provider: ProviderId,
    /// The sign-in method.
    pub method: String,
    /// The caller's id for the user.
    pub user_id: Option<String>,
    /// Its status.
    pub status: SessionStatus,
    /// Why it has this status.
    pub reason: Option<Reason>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}
