//! The image that machines run, and their accelerator.

use std::collections::BTreeMap;

/// The image of machines and their accelerator.
#[derive(Debug, Clone, Default)]
pub struct ImageFacts {
    /// The image's content hash.
    pub hash: String,
    /// Tool → version.
    pub clis: BTreeMap<String, String>,
    /// The accelerator, one sentence.
    pub accelerator: String,
    /// Whether machines are emulated, which is not a security boundary.
    pub emulated: bool,
}

impl ImageFacts {
    /// Whether the image contains the tool.
    pub fn has_cli(&self, name: &str) -> bool {
        self.clis.contains_key(name)
    }
}
