//! The delivery of a credential from the machine to the controller.

use crate::{Base64, CredentialId, ProviderId, SessionId};
use serde::{Deserialize, Serialize};

/// `GET /api/agent/session`: the session of the machine, with what a delivery must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct AgentSession {
    /// The session.
    pub session: SessionId,
    /// The generation of the machine: 1 for the session's first.
    pub generation: u32,
    /// The provider.
    pub provider: ProviderId,
    /// The files that may be delivered, by their paths below the home directory.
    pub credential_paths: Vec<String>,
}

/// `POST /api/auth/credentials/store`: a captured credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CredentialDelivery {
    /// The session.
    pub session: SessionId,
    /// The session's generation.
    pub generation: u32,
    /// The provider.
    pub provider: ProviderId,
    /// The files, byte for byte as the tool wrote them; the first is the one that was checked.
    pub files: Vec<DeliveredFile>,
}

/// One file as the tool wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeliveredFile {
    /// Path below the home directory.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The bytes in base64 (RFC 4648 §4, padded).
    #[cfg_attr(feature = "utoipa", schema(value_type = String, content_encoding = "base64"))]
    pub content: Base64,
}

/// Whether a request that was answered with this HTTP status would be rejected again: a client error, except 408 (timeout) and 429
/// (too many requests). The agent does not send such a delivery again.
pub fn is_permanent_rejection(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 429)
}

/// The controller's answer to a delivery. In both cases the agent must not send it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum DeliveryResult {
    /// The credential was sealed, stored and read back.
    Stored {
        /// Its id.
        credential: CredentialId,
    },
    /// The session had already ended; nothing was changed.
    Ignored,
}
