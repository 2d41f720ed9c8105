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

impl Layer {
    /// All layers.
    pub const ALL: [Self; 9] = [
        Self::User,
        Self::UserNamespace,
        Self::Namespaces,
        Self::RootDirectory,
        Self::Landlock,
        Self::SystemCalls,
        Self::ResourceLimits,
        Self::Cgroup,
        Self::OomOrder,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::UserNamespace => "user namespace",
            Self::Namespaces => "namespaces",
            Self::RootDirectory => "root directory",
            Self::Landlock => "Landlock",
            Self::SystemCalls => "system calls",
            Self::ResourceLimits => "resource limits",
            Self::Cgroup => "cgroup",
            Self::OomOrder => "OOM order",
        }
    }

    /// What it does when it is on.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::User => "a VMM runs as a user that owns nothing on this host",
            Self::UserNamespace => "a VMM has no capability on this host",
            Self::Namespaces => "a VMM has no network, sees no other process and shares no IPC",
            Self::RootDirectory => "a VMM's root directory is empty once it has started",
            Self::Landlock => "a VMM may open no file and no TCP connection",
            Self::SystemCalls => "a VMM may make only the system calls on a list",
            Self::ResourceLimits => "a VMM's memory, threads, files and file sizes are limited",
            Self::Cgroup => "the memory, processes and processor time of a machine are limited together",
            Self::OomOrder => "without memory the kernel kills a VMM first, then its keeper, the server last",
        }
    }
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
