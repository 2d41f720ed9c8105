//! The image that machines run, and their accelerator.

use std::collections::BTreeMap;

/// The image of machines and their accelerator.
#[derive(Debug, Clone, Default)]
pub struct ImageInfo {
    /// The image's content hash.
    pub hash: String,
    /// Tool → version.
    pub tool_versions: BTreeMap<String, String>,
    /// The accelerator, one sentence.
    pub accelerator: String,
    /// Whether machines are emulated, which is not a security boundary.
    pub is_emulated: bool,
}

impl ImageInfo {
    /// Whether the image contains the tool.
    pub fn has_tool(&self, name: &str) -> bool {
        self.tool_versions.contains_key(name)
    }
}
