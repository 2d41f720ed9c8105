//! `anteroom image build`: from the recipe and the agent's binary to an image that machines are made from.
//!
//! Two levels are kept by the hash of what they were made from: the root file system (packages, our files, tools: a minute
//! or two) and the whole image (a second when only the agent changed). The same inputs again cost nothing.

mod assemble;
pub(super) mod leftovers;

use super::{
    Image, elf, hex, read_up_to,
    recipe::{Cli, Recipe},
    root::{Making, Root},
    shelf::{Shelf, Taken},
    tools::{Missing, apt_line, missing_tools},
};
use anteroom_wire::agent::PROTOCOL;
use sha2::{Digest, Sha256};
use std::{
    error::Error,
    fmt::{self, Write as _},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How a root file system is made, beside the recipe: raised when `root.rs` gives other bytes for the same inputs.
const ROOT_REVISION: u32 = 2;
/// What this program knows of the demo tool.
const DEMO: (&str, &str) = ("anteroom-demo", env!("CARGO_PKG_VERSION"));

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
pub type Note = Arc<dyn Fn(Progress) + Send + Sync>;

impl Progress {
    pub(super) fn at(step: Step, fraction: f32, note: &str) -> Self {
        Self { step, fraction: Some(fraction), note: note.to_owned() }
    }
}

/// What a build gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image; it is the current one.
    pub image: Image,
    /// Nothing had to be done: it was built from the same inputs before.
    pub unchanged: bool,
    /// Old images that were removed.
    pub removed: usize,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This host lacks something.
    #[error("{}", missing_text(.0))]
    Missing(Vec<Missing>),
    /// Another build runs.
    #[error("another build runs in {dir:?}{}: wait for its end", holder(*.pid))]
    Busy {
        /// The images directory.
        dir: PathBuf,
        /// Its process, if known.
        pid: Option<u32>,
    },
    /// A binary is not one for the guest.
    #[error("{path:?} {why}")]
    Binary {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The embedded recipe does not read.
    #[error("the recipe in this program does not read")]
    Recipe(#[source] toml::de::Error),
    /// A program could not be started or waited for.
    #[error("{step}: `{command}` could not be run")]
    Start {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{step}: `{command}` ended with {status}; its last lines:{}", indented(.last_lines))]
    Failed {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// A program took too long.
    #[error("{step}: `{command}` did not end within {limit_s} s; its last lines:{}", indented(.last_lines))]
    TooLong {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// The limit, seconds.
        limit_s: u64,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// A program was told to end because another part of the build had failed.
    #[error("{step}: `{command}` was stopped")]
    Stopped {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
    },
    /// A download is not what the recipe pins.
    #[error("{package} is not the package that the recipe names: its integrity is {found}, not {expected}")]
    Integrity {
        /// Which.
        package: String,
        /// As the recipe says.
        expected: String,
        /// As it came.
        found: String,
    },
    /// A program did its work and the result is not what it should be.
    #[error("{step}: {what}")]
    Unexpected {
        /// While doing what.
        step: Step,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{step}: {path:?}")]
    Io {
        /// While doing what.
        step: Step,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The finished image is refused.
    #[error("the finished image is refused")]
    Refused(#[source] super::ImageError),
    /// No machine could be started from the image; the current image stays what it was.
    #[error("the image was built, but its self-test failed")]
    SelfTest(#[source] Box<dyn Error + Send + Sync>),
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return " (none)".into();
    }
    lines.iter().flat_map(|line| ["\n    ", line]).collect()
}

fn missing_text(missing: &[Missing]) -> String {
    let mut text = String::from("this host lacks what the build needs:");
    for missing in missing {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n    {}: {}", missing.what, missing.why);
    }
    let lines = apt_line(missing).into_iter();
    let others = missing.iter().filter(|missing| missing.package.is_none()).map(|missing| missing.remedy.clone());
    text.push_str("\n  what provides it:");
    for line in lines.chain(others) {
        let _ = write!(text, "\n    {line}");
    }
    text
}

/// Builds an image, or finds that the current one is already made from these inputs. `self_test` is given the finished image
/// before it becomes the current one; if it fails, the image is removed and the current one stays what it was.
///
/// # Errors
/// With the step and the cause. Nothing unfinished is left where an image is looked for.
pub async fn build(
    settings: &BuildSettings,
    progress: Note,
    self_test: impl AsyncFnOnce(&Image) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<Built, BuildError> {
    progress(Progress::at(Step::Check, 0.0, ""));
    let mut recipe = Recipe::embedded().map_err(BuildError::Recipe)?;
    recipe.add(&settings.extra_clis, &settings.extra_packages);
    let recipe = Arc::new(recipe);
    let inputs = Inputs::of(&recipe, settings)?;
    let shelf = Shelf::take(&settings.dir).map_err(|taken| match taken {
        Taken::Busy(pid) => BuildError::Busy { dir: settings.dir.clone(), pid },
        Taken::Io(path, source) => BuildError::Io { step: Step::Check, path, source },
    })?;
    let on_shelf = |step| {
        let path = settings.dir.clone();
        move |source| BuildError::Io { step, path, source }
    };
    leftovers::clear(&shelf, settings).await?;
    let known = shelf.images().map_err(on_shelf(Step::Check))?;
    let known = known.into_iter().find(|image| image.manifest.inputs_sha256 == inputs.image);
    let is_current =
        |image: &Image| Image::current(&settings.dir).is_ok_and(|current| current.manifest == image.manifest);
    if let Some(image) = known.filter(|image| !settings.refresh && is_current(image)) {
        progress(Progress::at(Step::Publish, 1.0, "nothing has changed"));
        return Ok(Built { image, unchanged: true, removed: 0 });
    }
    let root_dir = shelf.root_dir(&inputs.root);
    let root = match Root::cached(&root_dir).filter(|_| !settings.refresh) {
        Some(root) => {
            progress(Progress::at(Step::RootFs, 1.0, "unchanged"));
            root
        }
        None => make_root(settings, &recipe, &shelf, &root_dir, &progress).await?,
    };
    progress(Progress { step: Step::Assemble, fraction: None, note: String::new() });
    let image = assemble::assemble(&shelf, &root, &root_dir, settings, &inputs).await?;
    progress(Progress { step: Step::SelfTest, fraction: None, note: String::new() });
    if let Err(error) = self_test(&image).await {
        if !is_current(&image) {
            std::fs::remove_dir_all(&image.dir).map_err(on_shelf(Step::SelfTest))?;
        }
        return Err(BuildError::SelfTest(error));
    }
    shelf.make_current(&image).map_err(on_shelf(Step::Publish))?;
    let removed = shelf.prune(settings.images_kept).map_err(on_shelf(Step::Publish))?;
    progress(Progress::at(Step::Publish, 1.0, ""));
    Ok(Built { image, unchanged: false, removed })
}

/// Makes the root file system; the host's tools are needed only here.
async fn make_root(
    settings: &BuildSettings,
    recipe: &Arc<Recipe>,
    shelf: &Shelf,
    root_dir: &Path,
    progress: &Note,
) -> Result<Root, BuildError> {
    let missing = missing_tools();
    if !missing.is_empty() {
        return Err(BuildError::Missing(missing));
    }
    progress(Progress::at(Step::Check, 1.0, ""));
    let scratch =
        shelf.scratch().map_err(|source| BuildError::Io { step: Step::Check, path: settings.dir.clone(), source })?;
    let packages_dir = leftovers::packages_dir(&scratch, &settings.scratch_dir)?;
    let making = Making {
        recipe,
        settings,
        demo: DEMO,
        scratch: &scratch,
        packages_dir: &packages_dir,
        progress: progress.clone(),
    };
    let made = super::root::make(&making, root_dir).await;
    // On failure too, and what cannot be removed now is removed by the next build.
    let cleared = leftovers::remove(&scratch, settings).await;
    let root = made?;
    cleared?;
    progress(Progress::at(Step::RootFs, 1.0, ""));
    Ok(root)
}

/// What an image is made from, as hashes.
struct Inputs {
    /// Recipe, our files, the demo tool: what the root file system depends on.
    root: String,
    /// That and the agent: what the image depends on.
    image: String,
    agent: Vec<u8>,
    agent_sha256: String,
}

impl Inputs {
    fn of(recipe: &Recipe, settings: &BuildSettings) -> Result<Self, BuildError> {
        let agent = static_program(&settings.agent_binary)?;
        let demo = static_program(&settings.demo_binary)?;
        let mut root = Sha256::new();
        root.update(format!("root {ROOT_REVISION} level {}\n{} {}\n", settings.squash_level, DEMO.0, DEMO.1));
        recipe.identify(&mut root);
        for cli in &settings.extra_clis {
            root.update(format!("\n{cli:?}\n"));
        }
        for package in &settings.extra_packages {
            root.update(format!("\npackage {package:?}\n"));
        }
        root.update(Sha256::digest(&demo));
        let root = hex(&root.finalize());
        let agent_sha256 = hex(&Sha256::digest(&agent));
        let image = hex(&Sha256::digest(format!("image {} {PROTOCOL} {root} {agent_sha256}", super::FORMAT)));
        Ok(Self { root, image, agent, agent_sha256 })
    }
}

/// Reads a program for the guest.
fn static_program(path: &Path) -> Result<Vec<u8>, BuildError> {
    const PROGRAM_BYTES_MAX: usize = 64 * 1024 * 1024;
    let refused = |why: &str| BuildError::Binary { path: path.to_owned(), why: why.into() };
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(PROGRAM_BYTES_MAX);
        let mut content = vec![0; size];
        let got = read_up_to(&mut file, &mut content)?;
        content.truncate(got);
        Ok(content)
    };
    let content = read().map_err(|error| refused(&format!("cannot be read: {error}")))?;
    match elf::not_static(&content) {
        Some(why) => Err(refused(why)),
        None if content.len() == PROGRAM_BYTES_MAX => Err(refused("is too large for a program of the guest")),
        None => Ok(content),
    }
}

#[cfg(test)]
mod tests;
