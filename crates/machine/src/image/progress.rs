//! The steps of an image build and how far they are.

use std::{fmt, sync::Arc};

/// A step of the build, in this order; `Tools` and `Packages` run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// This host and the inputs are looked at.
    Check,
    /// Command-line tools are downloaded.
    Tools,
    /// Debian packages are installed.
    Packages,
    /// The root file system is written.
    RootFs,
    /// Kernel, agent and modules are put together.
    Assemble,
    /// A machine is started from it once.
    SelfTest,
    /// It becomes the current image; old ones go.
    Publish,
}

impl Step {
    /// All steps, for a display.
    pub const ALL: [Self; 7] =
        [Self::Check, Self::Tools, Self::Packages, Self::RootFs, Self::Assemble, Self::SelfTest, Self::Publish];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "looking at this host",
            Self::Tools => "downloading command-line tools",
            Self::Packages => "installing packages",
            Self::RootFs => "writing the root file system",
            Self::Assemble => "putting the image together",
            Self::SelfTest => "starting a machine from it",
            Self::Publish => "making it current",
        })
    }
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which.
    pub step: Step,
    /// From 0 to 1, 1 is done; `None`: under way, not known how far.
    pub fraction: Option<f32>,
    /// A few words for people; may be empty.
    pub note: String,
}

/// Who is told of progress. Called from several threads; must not block for long.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

impl Progress {
    pub(super) fn at(step: Step, fraction: f32, note: &str) -> Self {
        Self { step, fraction: Some(fraction), note: note.to_owned() }
    }
}
