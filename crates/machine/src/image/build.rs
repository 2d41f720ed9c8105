//! `anteroom image build`: from the recipe and the agent's binary to an image that machines are made from.
//!
//! Two levels are kept by the hash of what they were made from: the root file system (packages, our files, tools: a minute
//! or two) and the whole image (a second when only the agent changed). The same inputs again cost nothing.

mod assemble;

use super::{
    Image,
    build_context::BuildContext,
    build_error::BuildError,
    build_settings::BuildSettings,
    elf, hex,
    host_requirements::missing_requirements,
    leftovers,
    progress::{OnProgress, Progress, Step},
    read_up_to,
    recipe::Recipe,
    root::Root,
    store::{ImageStore, LockError},
};
use anteroom_wire::agent::PROTOCOL;
use sha2::{Digest, Sha256};
use std::{error::Error, fs::File, io, path::Path, sync::Arc};

/// How a root file system is made, beside the recipe: raised when `root.rs` gives other bytes for the same inputs.
const ROOT_REVISION: u32 = 2;
/// What this program knows of the demo tool.
const DEMO: (&str, &str) = ("anteroom-demo", env!("CARGO_PKG_VERSION"));

/// What a build gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The image; it is the current one.
    pub image: Image,
    /// Nothing had to be done: it was built from the same inputs before.
    pub unchanged: bool,
    /// Old images that were removed.
    pub removed: usize,
}

/// Builds an image, or finds that the current one is already made from these inputs. `self_test` is given the finished image
/// before it becomes the current one; if it fails, the image is removed and the current one stays what it was.
///
/// # Errors
/// With the step and the cause. Nothing unfinished is left where an image is looked for.
pub async fn build(
    settings: &BuildSettings,
    progress: OnProgress,
    self_test: impl AsyncFnOnce(&Image) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<BuildOutcome, BuildError> {
    progress(Progress::at(Step::Check, 0.0, ""));
    let mut recipe = Recipe::embedded().map_err(BuildError::Recipe)?;
    recipe.add(&settings.extra_clis, &settings.extra_packages);
    let recipe = Arc::new(recipe);
    let inputs = Inputs::of(&recipe, settings)?;
    let store = ImageStore::lock(&settings.dir).map_err(|taken| match taken {
        LockError::Busy(pid) => BuildError::Busy { dir: settings.dir.clone(), pid },
        LockError::Io(path, source) => BuildError::Io { step: Step::Check, path, source },
    })?;
    let io_error = |step| {
        let path = settings.dir.clone();
        move |source| BuildError::Io { step, path, source }
    };
    leftovers::clear(&store, settings).await?;
    let known = store.images().map_err(io_error(Step::Check))?;
    let known = known.into_iter().find(|image| image.manifest.inputs_sha256 == inputs.image);
    let is_current =
        |image: &Image| Image::current(&settings.dir).is_ok_and(|current| current.manifest == image.manifest);
    if let Some(image) = known.filter(|image| !settings.refresh && is_current(image)) {
        progress(Progress::at(Step::Publish, 1.0, "nothing has changed"));
        return Ok(BuildOutcome { image, unchanged: true, removed: 0 });
    }
    let root_dir = store.root_dir(&inputs.root);
    let root = match Root::cached(&root_dir).filter(|_| !settings.refresh) {
        Some(root) => {
            progress(Progress::at(Step::RootFs, 1.0, "unchanged"));
            root
        }
        None => make_root(settings, &recipe, &store, &root_dir, &progress).await?,
    };
    progress(Progress { step: Step::Assemble, fraction: None, note: String::new() });
    let image = assemble::assemble(&store, &root, &root_dir, settings, &inputs).await?;
    progress(Progress { step: Step::SelfTest, fraction: None, note: String::new() });
    if let Err(error) = self_test(&image).await {
        if !is_current(&image) {
            std::fs::remove_dir_all(&image.dir).map_err(io_error(Step::SelfTest))?;
        }
        return Err(BuildError::SelfTest(error));
    }
    store.make_current(&image).map_err(io_error(Step::Publish))?;
    let removed = store.prune(settings.images_kept).map_err(io_error(Step::Publish))?;
    progress(Progress::at(Step::Publish, 1.0, ""));
    Ok(BuildOutcome { image, unchanged: false, removed })
}

/// Makes the root file system; the host's tools are needed only here.
async fn make_root(
    settings: &BuildSettings,
    recipe: &Arc<Recipe>,
    store: &ImageStore,
    root_dir: &Path,
    progress: &OnProgress,
) -> Result<Root, BuildError> {
    let missing = missing_requirements();
    if !missing.is_empty() {
        return Err(BuildError::Missing(missing));
    }
    progress(Progress::at(Step::Check, 1.0, ""));
    let scratch =
        store.scratch().map_err(|source| BuildError::Io { step: Step::Check, path: settings.dir.clone(), source })?;
    let packages_dir = leftovers::packages_dir(&scratch, &settings.scratch_dir)?;
    let context = BuildContext {
        recipe,
        settings,
        demo: DEMO,
        scratch: &scratch,
        packages_dir: &packages_dir,
        progress: progress.clone(),
    };
    let made = super::root::make(&context, root_dir).await;
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
