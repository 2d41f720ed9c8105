//! The machines of a server's host, and their image.

use crate::{MachineId, ProviderId, SessionId, agent::Stage};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/machines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MachineList {
    /// The image of new machines.
    pub image: ImageView,
    /// The machines that are not removed, the oldest first.
    pub machines: Vec<MachineView>,
}

/// The image that new machines run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ImageView {
    /// SHA-256 of its content, as hex digits.
    pub digest: String,
    /// When it was built (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub built_at: Option<String>,
    /// The release of its kernel.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub kernel_version: Option<String>,
    /// Its files.
    pub files: Vec<ImageFile>,
    /// Which kind of machines runs it and why, one sentence.
    pub kind: String,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ImageFile {
    /// Its name.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MachineView {
    /// Its id.
    pub id: MachineId,
    /// What it does.
    pub state: MachineState,
    /// The stage of its start that is not reached yet, if it starts.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub stage: Option<Stage>,
    /// When it was requested (RFC 3339).
    pub requested_at: String,
    /// Its session; `null`: none, for example while it is removed.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub session: Option<SessionId>,
    /// Whether it was started before a session asked for one, and waits for one (`machines.warm_target`).
    #[serde(default)]
    pub is_warm: bool,
    /// The provider of its session.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub provider: Option<ProviderId>,
    /// The memory that its process uses, MiB.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub memory_mib: Option<u64>,
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum MachineState {
    /// It starts, or its channel is being restored.
    Starting,
    /// It is used, or could be.
    Ready,
    /// It is being removed.
    Stopping,
}
