//! The image that machines run, and what isolates them from the host.

use anteroom_wire::api::{ImageFile, Isolation, IsolationLevel};
use std::collections::BTreeMap;

/// The image of machines and their isolation.
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// The image's content hash.
    pub hash: String,
    /// When it was built, seconds since 1970; `None`: unknown.
    pub built_at_unix_s: Option<u64>,
    /// The release of its kernel; `None`: it has no kernel of its own.
    pub kernel_version: Option<String>,
    /// Its files.
    pub files: Vec<ImageFile>,
    /// Tool → version.
    pub tool_versions: BTreeMap<String, String>,
    /// Which kind of machines was chosen and why, one sentence.
    pub kind: String,
    /// How machines are isolated from the host.
    pub isolation: Isolation,
    /// The host's memory that one machine may take: the guest's and that of its VMM, MiB. 0: unknown.
    pub machine_memory_mib_max: u64,
}

impl ImageInfo {
    /// Whether machines are emulated, which is not a security boundary.
    pub fn is_emulated(&self) -> bool {
        self.isolation.level == IsolationLevel::Emulated
    }

    /// Whether the image contains the tool of this name; empty: a program that is not in its manifest, which is not known.
    pub fn has_tool(&self, name: &str) -> bool {
        name.is_empty() || self.tool_versions.contains_key(name)
    }
}
