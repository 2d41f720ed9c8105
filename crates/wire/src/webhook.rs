//! Webhook messages, signed as specified by Standard Webhooks: headers `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! A message may be sent more than once with the same `webhook-id`; messages of one session are sent in order. A receiver answers
//! with 2xx when it has processed the message; after any other answer, or none, the message is sent again.

use crate::{
    ProviderId, SessionId,
    agent::{DeliveredFile, UsePurpose},
    api::{CredentialMeta, Reason, SessionStatus},
    diagnosis::Verdict,
};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum EventType {
    /// A credential was stored, and its session has completed.
    #[serde(rename = "credential.stored")]
    CredentialStored,
    /// A stored credential expires soon.
    #[serde(rename = "credential.expiring")]
    CredentialExpiring,
    /// A stored credential has expired, was rejected by its tool, or was signed out: sign in again.
    #[serde(rename = "credential.needs_auth")]
    CredentialNeedsAuth,
    /// A stored credential was leased.
    #[serde(rename = "credential.leased")]
    CredentialLeased,
    /// A stored credential was deleted.
    #[serde(rename = "credential.deleted")]
    CredentialDeleted,
    /// The session waits for its person: the tool shows an address, a code or a question.
    #[serde(rename = "session.waiting")]
    SessionWaiting,
    /// The tool of an active sign-in reported a failure, ended with an error or could not be started.
    #[serde(rename = "session.failed")]
    SessionFailed,
    /// A session has ended.
    #[serde(rename = "session.ended")]
    SessionEnded,
    /// A test of the receiver.
    #[serde(rename = "webhook.test")]
    WebhookTest,
}

/// Whether a message has a session or credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Present,
    /// In some messages; else `null`.
    Sometimes(&'static str),
    /// Never: it is `null`.
    Null,
}

impl EventType {
    /// All types, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::CredentialStored,
        Self::CredentialExpiring,
        Self::CredentialNeedsAuth,
        Self::CredentialLeased,
        Self::CredentialDeleted,
        Self::SessionWaiting,
        Self::SessionFailed,
        Self::SessionEnded,
        Self::WebhookTest,
    ];

    /// The text in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialStored => "credential.stored",
            Self::CredentialExpiring => "credential.expiring",
            Self::CredentialNeedsAuth => "credential.needs_auth",
            Self::CredentialLeased => "credential.leased",
            Self::CredentialDeleted => "credential.deleted",
            Self::SessionWaiting => "session.waiting",
            Self::SessionFailed => "session.failed",
            Self::SessionEnded => "session.ended",
            Self::WebhookTest => "webhook.test",
        }
    }

    /// The type of this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }

    /// When it is sent, for the documentation.
    pub fn when(self) -> &'static str {
        match self {
            Self::CredentialStored => {
                "a credential was sealed and stored and its session completed; or a use changed one that is delivered once"
            }
            Self::CredentialExpiring => "a stored credential expires within `credentials.expiry_warning_s`; once",
            Self::CredentialNeedsAuth => {
                "a stored credential has expired, a check found that its tool rejects it, or it was signed out; once"
            }
            Self::CredentialLeased => "a stored credential was leased; one that is delivered once is deleted by that",
            Self::CredentialDeleted => "a stored credential was deleted by its owner, or was not fetched in time",
            Self::SessionWaiting => {
                "the tool of a sign-in shows an address, a code or a question; once for each machine of the session"
            }
            Self::SessionFailed => {
                "the tool of a sign-in reports a failure, ends with an error or cannot be started; the session goes on until its person tries again or it ends; once for each machine"
            }
            Self::SessionEnded => {
                "a sign-in or a use of a credential has ended, successfully or not; not a check that the tool answered"
            }
            Self::WebhookTest => "`anteroom webhook test`",
        }
    }

    /// Whether `data.session` is there.
    pub fn session(self) -> Presence {
        match self {
            Self::CredentialStored | Self::SessionWaiting | Self::SessionFailed | Self::SessionEnded => {
                Presence::Present
            }
            Self::CredentialNeedsAuth => {
                Presence::Sometimes("the session that found it; `null` if its file has the date")
            }
            Self::CredentialExpiring | Self::CredentialLeased | Self::CredentialDeleted | Self::WebhookTest => {
                Presence::Null
            }
        }
    }

    /// Whether `data.credential` is there.
    pub fn credential(self) -> Presence {
        match self {
            Self::CredentialStored | Self::CredentialExpiring | Self::CredentialNeedsAuth => {
                Presence::Sometimes("`null` if it was deleted since")
            }
            Self::CredentialLeased | Self::CredentialDeleted => Presence::Present,
            Self::SessionEnded => Presence::Sometimes(
                "after a completed sign-in, or the one that was used; `null` if it was deleted since",
            ),
            Self::SessionWaiting | Self::SessionFailed | Self::WebhookTest => Presence::Null,
        }
    }
}

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookNotification {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When it happened, RFC 3339.
    pub timestamp: String,
    /// The affected session and credential.
    pub data: NotificationData,
}

/// The session and credential of a message, read when the message is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct NotificationData {
    /// The session; `null` in messages that are about no session.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub session: Option<SessionSummary>,
    /// The credential; `null` in messages that are about none, and if it was deleted in the meantime.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub credential: Option<CredentialMeta>,
    /// The files of a `deliver_once` credential, byte for byte, if the configuration enables it: the 2xx answer completes that one
    /// delivery. Otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<Vec<Object>>))]
    pub files: Option<Vec<DeliveredFile>>,
}

/// A session in a webhook message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// The provider.
    pub provider: ProviderId,
    /// The sign-in method.
    pub method: String,
    /// How it uses a stored credential; `null`: it is a sign-in.
    #[serde(rename = "use")]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub purpose: Option<UsePurpose>,
    /// The caller's id for the user.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub user_id: Option<String>,
    /// Its status.
    pub status: SessionStatus,
    /// Why it has this status.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub reason: Option<Reason>,
    /// What the tool said about its failed sign-in; `null`: it did not fail, or said nothing.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub failed: Option<String>,
    /// Why an ended session failed, if that says more than `reason`: a verdict of `GET …/diagnosis`.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub verdict: Option<Verdict>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ended.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub ended_at: Option<String>,
}
