//! The steps of an image build and their progress.

use std::{fmt, sync::Arc};

/// A step of the build, in this order; `Tools` and `Packages` run in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BuildStep {
    /// Check this host and the inputs.
    Check,
    /// Download command-line tools.
    Tools,
    /// Install Debian packages.
    Packages,
    /// Write the root file system.
    RootFs,
    /// Assemble kernel, agent, modules and root file system.
    Assemble,
    /// Start a machine from the image.
    SelfTest,
    /// Make the image current and remove old ones.
    Publish,
}

impl BuildStep {
    /// All steps, for a display.
    pub const ALL: [Self; 7] =
        [Self::Check, Self::Tools, Self::Packages, Self::RootFs, Self::Assemble, Self::SelfTest, Self::Publish];
}

impl fmt::Display for BuildStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "checking this host",
            Self::Tools => "downloading command-line tools",
            Self::Packages => "installing packages",
            Self::RootFs => "writing the root file system",
            Self::Assemble => "assembling the image",
            Self::SelfTest => "starting a machine from the image",
            Self::Publish => "making the image current",
        })
    }
}

/// The progress of one step of an image build.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressReport {
    /// The step.
    pub step: BuildStep,
    /// From 0 to 1, 1 is done; `None`: running, progress unknown.
    pub fraction: Option<f32>,
    /// A short text for display; may be empty.
    pub message: String,
}

/// Callback for progress. Called from several threads; must not block for long.
pub type OnProgress = Arc<dyn Fn(ProgressReport) + Send + Sync>;

impl ProgressReport {
    pub(super) fn new(step: BuildStep, fraction: f32, note: &str) -> Self {
        Self { step, fraction: Some(fraction), message: note.to_owned() }
    }
}
