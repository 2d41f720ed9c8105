//! The server's health and the isolation of its machines.

use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Health {
    /// `ok`, `degraded` (works, see the checks) or `down`.
    pub status: HealthStatus,
    /// The server's version.
    pub version: String,
    /// One check for each dependency that was really tested.
    pub checks: Vec<HealthCheck>,
    /// How machines are isolated from the host; for operators only.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub isolation: Option<Isolation>,
}

/// How machines are isolated from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Isolation {
    /// The sum.
    pub level: IsolationLevel,
    /// The sum in one sentence.
    pub detail: String,
    /// The layers of confinement that are off.
    pub layers_off: Vec<LayerOff>,
}

/// The sum of the layers that isolate machines from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum IsolationLevel {
    /// KVM and all layers of confinement.
    Strong,
    /// KVM, and not all layers.
    Partial,
    /// No KVM: not a security boundary, whatever the layers are.
    Emulated,
}

/// A layer of confinement that is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LayerOff {
    /// Its name.
    pub name: String,
    /// Why it is off.
    pub why: String,
    /// How to switch it on.
    pub remedy: String,
}

/// The health of the server or of one dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum HealthStatus {
    /// Works.
    Ok,
    /// Works, with restrictions.
    Degraded,
    /// Does not work.
    Down,
}

/// The check of one dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HealthCheck {
    /// `store`, `vault`, `image`, `isolation`, `machines`, `disk`, `memory`, `reconcile`.
    pub name: String,
    /// Its health.
    pub status: HealthStatus,
    /// What was observed, one sentence.
    pub detail: String,
}
