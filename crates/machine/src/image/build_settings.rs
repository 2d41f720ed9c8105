//! Settings of an image build.

use super::{
    extra_files::{ExtraFile, Hook},
    recipe::Cli,
};
use std::path::PathBuf;

/// Settings of an image build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSettings {
    /// The images directory.
    pub images_dir: PathBuf,
    /// Where packages are unpacked during the build, about 1.5 GB. All users must be able to traverse the directories above it.
    /// `/var/tmp` is suitable; `/tmp` may be in memory.
    pub scratch_dir: PathBuf,
    /// The agent's statically linked binary.
    pub agent_binary: PathBuf,
    /// The demo tool's statically linked binary.
    pub demo_binary: PathBuf,
    /// Install the newest packages even if the recipe has not changed.
    pub update_packages: bool,
    /// Fail if a package differs from the lock.
    pub require_locked_packages: bool,
    /// Number of images to keep, including the current one. Images in use are kept in addition.
    pub images_kept: usize,
    /// Timeout of each program of the build, milliseconds.
    pub step_ms_max: u64,
    /// Compression level of the root file system, 1 to 22 (zstd).
    pub compression_level: u32,
    /// Command-line tools in addition to the recipe's; one with the same name replaces it. [`Cli::validation_errors`] must be empty.
    pub extra_clis: Vec<Cli>,
    /// Debian packages in addition to the recipe's, each a tool whose program has the package's name.
    pub extra_packages: Vec<String>,
    /// Files of this host; a program replaces the recipe's tool of the same name. [`ExtraFile::validation_errors`] must be empty.
    pub extra_files: Vec<ExtraFile>,
    /// A script that runs in the root file system after the packages are installed. [`Hook::validation_errors`] must be empty.
    pub hook: Option<Hook>,
}

impl BuildSettings {
    /// The defaults for these binaries.
    pub fn new(dir: PathBuf, agent_binary: PathBuf, demo_binary: PathBuf) -> Self {
        Self {
            images_dir: dir,
            scratch_dir: PathBuf::from("/var/tmp"),
            agent_binary,
            demo_binary,
            update_packages: false,
            require_locked_packages: false,
            images_kept: 3,
            step_ms_max: 30 * 60 * 1000,
            compression_level: 9,
            extra_clis: Vec::new(),
            extra_packages: Vec::new(),
            extra_files: Vec::new(),
            hook: None,
        }
    }
}
