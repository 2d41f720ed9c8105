//! The layers of a confinement, and whether they are on.

use serde::{Deserialize, Serialize};

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A user that owns nothing on this host.
    User,
    /// A user namespace.
    UserNamespace,
    /// Network, PID, IPC, UTS and cgroup namespaces, empty.
    Namespaces,
    /// A root directory that is empty once the VMM has started.
    RootDirectory,
    /// Landlock.
    Landlock,
    /// The allow-list of system calls.
    SystemCalls,
    /// Resource limits.
    ResourceLimits,
    /// A cgroup with limits of memory, processes and processor time.
    Cgroup,
    /// The kernel kills a VMM before its keeper, and a keeper before the server, for lack of memory.
    OomOrder,
}

/// Whether a layer is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum LayerStatus {
    /// It is.
    On,
    /// It is not.
    Off {
        /// The cause.
        why: String,
        /// How to switch it on.
        #[serde(default)]
        remedy: String,
    },
}

impl LayerStatus {
    pub(super) fn off(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Off { why: why.into(), remedy: remedy.into() }
    }
}
