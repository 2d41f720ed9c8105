//! A credential's way out of the machine.

use crate::{Base64, CredentialId, ProviderId, SessionId};
use serde::{Deserialize, Serialize};

/// `GET /api/agent/session`: what a delivery has to name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct AgentSession {
    /// The session.
    pub session: SessionId,
    /// Which of its machines this is.
    pub generation: u32,
    /// The tool.
    pub provider: ProviderId,
    /// The files that may be delivered, by their paths below the home directory.
    pub paths: Vec<String>,
}

/// The credential, on its way to the vault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Whose.
    pub session: SessionId,
    /// The session's generation.
    pub generation: u32,
    /// Which tool's.
    pub provider: ProviderId,
    /// The files, byte for byte as the tool wrote them; the first is the one that was checked.
    pub files: Vec<DeliveredFile>,
}

/// One file as the tool wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredFile {
    /// Path below the home directory.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The bytes.
    pub content: Base64,
}

/// The controller's answer to a delivery. Either way the agent is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum DeliveryResult {
    /// Sealed, stored, read back.
    Stored {
        /// Its id.
        credential: CredentialId,
    },
    /// The session had been completed or ended before: nothing was changed.
    Ignored,
}
