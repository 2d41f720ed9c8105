//! Where and how to build an image.

use super::recipe::Cli;
use std::path::PathBuf;

/// Where and how to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSettings {
    /// The images directory.
    pub dir: PathBuf,
    /// Where packages are unpacked for the time of the build, about 1.5 GB. Every directory above it must be passable for
    /// every user. `/var/tmp` is good; `/tmp` may be memory.
    pub scratch_dir: PathBuf,
    /// The agent's binary, static.
    pub agent_binary: PathBuf,
    /// The demo tool's binary, static.
    pub demo_binary: PathBuf,
    /// Install the newest packages although the recipe has not changed.
    pub refresh: bool,
    /// How many images are kept, the current one included. Those in use stay as well.
    pub images_kept: usize,
    /// The longest that one program of the build may run, milliseconds.
    pub step_ms_max: u64,
    /// How hard the root file system is compressed, 1 to 22 (zstd).
    pub squash_level: u32,
    /// Command-line tools beside the recipe's; one of the same name takes its place. They must be without faults.
    pub extra_clis: Vec<Cli>,
    /// Debian packages beside the recipe's, each a tool whose program has the package's name.
    pub extra_packages: Vec<String>,
}

impl BuildSettings {
    /// The defaults for these binaries.
    pub fn new(dir: PathBuf, agent_binary: PathBuf, demo_binary: PathBuf) -> Self {
        Self {
            dir,
            scratch_dir: PathBuf::from("/var/tmp"),
            agent_binary,
            demo_binary,
            refresh: false,
            images_kept: 3,
            step_ms_max: 30 * 60 * 1000,
            squash_level: 9,
            extra_clis: Vec::new(),
            extra_packages: Vec::new(),
        }
    }
}
