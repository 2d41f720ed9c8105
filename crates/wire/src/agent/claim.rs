//! The claim: assigns a cloned machine to a session.

use super::{ClaimedBy, DeliveredFile};
use crate::{Base64, Secret, provider::Provider};
use serde::{Deserialize, Serialize};

/// Assigns a cloned machine to a session. Applied in the order of the fields: entropy and time before any program starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Fresh random bytes, at least 32; credited to the guest kernel, then a reseed is forced.
    pub entropy: Base64,
    /// The host's time, nanoseconds since 1970.
    pub now_unix_ns: u64,
    /// The guest's new `/etc/machine-id`: 32 hex digits.
    pub guest_machine_id: String,
    /// The session that claims the machine.
    pub claimed_by: ClaimedBy,
    /// The size of the desktop.
    pub geometry: Geometry,
    /// The provider's descriptor.
    pub provider: Provider,
    /// The token with which the agent authenticates to the controller; valid until a delivery was stored.
    pub agent_token: Secret,
    /// Limits of the credential capture.
    pub capture_limits: CaptureLimits,
    /// Certificate authorities that the machine trusts in addition to those of its image, as PEM; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extra_ca_pem: String,
    /// The stored credential to use; `None`: the machine is for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_credential: Option<UseCredential>,
}

/// A stored credential to use: its files are installed before any program starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseCredential {
    /// What it is used for.
    pub purpose: UsePurpose,
    /// The files, as they were delivered.
    pub files: Vec<DeliveredFile>,
    /// The command for [`UsePurpose::Exec`] and [`UsePurpose::Logout`], run in the terminal instead of the provider's: program, then
    /// arguments. Empty for [`UsePurpose::Check`], which runs `credential.status_argv` without a terminal.
    #[serde(default)]
    pub argv: Vec<String>,
    /// For [`UsePurpose::Exec`]: the command waits for its caller, who starts it through an exec channel ([`crate::exec`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
}

/// What a stored credential is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum UsePurpose {
    /// A command of the owner; if it changes the credential, that is delivered again.
    Exec,
    /// The tool's status command.
    Check,
    /// The tool's sign-out command.
    Logout,
}

/// Limits of the credential capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureLimits {
    /// How long a candidate must remain unchanged, milliseconds.
    pub stable_ms: u64,
    /// The largest credential file, bytes.
    pub file_bytes_max: u64,
    /// The first wait before a delivery is retried, milliseconds; doubles up to `retry_ms_max`.
    pub retry_ms_min: u64,
    /// The longest such wait, milliseconds.
    pub retry_ms_max: u64,
    /// Timeout of the tool's status command, milliseconds.
    pub status_ms_max: u64,
}

/// The size of a desktop in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Geometry {
    /// 320 to 3840.
    pub width: u16,
    /// 240 to 2160.
    pub height: u16,
}

/// The answer to a claim, sent when the claim has been applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// The tool's process id in the guest; `None` while it is still being started.
    pub cli_pid: Option<u32>,
}
