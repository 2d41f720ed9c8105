//! What makes a clone somebody's machine.

use super::{ClaimedBy, DeliveredFile};
use crate::{Base64, Secret, provider::Provider};
use serde::{Deserialize, Serialize};

/// What makes a clone somebody's machine. Applied in the order of the fields: entropy and time before any program starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Fresh random bytes, at least 32; credited to the guest kernel, then a reseed is forced.
    pub entropy: Base64,
    /// The host's time, nanoseconds since 1970.
    pub now_unix_ns: u64,
    /// The guest's new `/etc/machine-id`: 32 hex digits.
    pub guest_machine_id: String,
    /// For whom.
    pub by: ClaimedBy,
    /// The size the desktop shall have.
    pub geometry: Geometry,
    /// The tool.
    pub provider: Provider,
    /// The machine's token towards the controller; good until a delivery was stored.
    pub agent_token: Secret,
    /// How the credential watch behaves.
    pub capture: CaptureLimits,
    /// The machine is for using a stored credential, not for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_credential: Option<UseCredential>,
}

/// A credential to be used: its files are laid down before anything starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseCredential {
    /// What for.
    pub purpose: UsePurpose,
    /// The files, as they were delivered.
    pub files: Vec<DeliveredFile>,
    /// The command for [`UsePurpose::Exec`] and [`UsePurpose::Logout`], run in the terminal in the place of the provider's: program,
    /// then arguments. [`UsePurpose::Check`] runs `credential.status_argv` without a terminal and has none here.
    #[serde(default)]
    pub argv: Vec<String>,
}

/// What a stored credential is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum UsePurpose {
    /// A command of the owner's; a credential that it changes is delivered again.
    Exec,
    /// The tool's own status command.
    Check,
    /// The tool's own sign-out.
    Logout,
}

/// How the credential watch behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureLimits {
    /// A candidate must not change for this long, milliseconds.
    pub stable_ms: u64,
    /// The largest credential file, bytes.
    pub file_bytes_max: u64,
    /// The wait before a delivery is tried again, milliseconds; doubles up to `retry_ms_max`.
    pub retry_ms_min: u64,
    /// The longest such wait.
    pub retry_ms_max: u64,
    /// How long the tool's status command may take, milliseconds.
    pub status_ms_max: u64,
}

/// A desktop's size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Geometry {
    /// 320 to 3840.
    pub width: u16,
    /// 240 to 2160.
    pub height: u16,
}

/// The answer to a claim: everything below has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The tool's process id in the guest; `None` while it is still being started.
    pub cli_pid: Option<u32>,
}
