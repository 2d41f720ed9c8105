//! `anteroom image build`: makes an image from the recipe and the agent's binary.
//!
//! Two results are cached by the hash of their inputs: the root file system (packages, guest files, tools: one or two
//! minutes) and the image (one second if only the agent has changed). A build with unchanged inputs does nothing.

mod assemble;

use super::{
    Image, Manifest,
    build_error::BuildError,
    build_settings::BuildSettings,
    check_packages::check_packages,
    elf,
    extra_files::{ExtraFile, Hook, VerifiedFile},
    hook::HookRun,
    host_requirements::find_missing_requirements,
    leftovers,
    package_lock::PackageLock,
    progress::{BuildStep, OnProgress, ProgressReport},
    read_up_to,
    recipe::Recipe,
    root_fs::RootFs,
    root_fs_build_parameters::RootFsBuildParameters,
    store::{ImageStore, LockError},
};
use anteroom_wire::agent::PROTOCOL_VERSION;
use sha2::{Digest, Sha256};
use std::{error::Error, fs::File, io, path::Path, sync::Arc};

/// The version of `root_fs.rs`: raised when it makes different bytes from the same recipe.
const ROOT_REVISION: u32 = 4;
/// Name and version of the demo tool.
const DEMO: (&str, &str) = ("anteroom-demo", env!("CARGO_PKG_VERSION"));

/// The result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The image; it is the current one.
    pub image: Image,
    /// Whether the current image had been built from the same inputs, so that nothing was done.
    pub unchanged: bool,
    /// Number of old images that were removed.
    pub removed: usize,
}

/// Builds an image and makes it current, unless the current one was built from the same inputs. `self_test` is called with the
/// finished image before it becomes current; if it fails, the image is removed and the current one is unchanged.
///
/// # Errors
/// The step and the cause. A failed build leaves no incomplete image.
pub async fn build_image(
    settings: &BuildSettings,
    progress: OnProgress,
    self_test: impl AsyncFnOnce(&Image) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<BuildOutcome, BuildError> {
    progress(ProgressReport::new(BuildStep::Check, 0.0, ""));
    let mut recipe = Recipe::parse_embedded().map_err(BuildError::InvalidRecipe)?;
    recipe.add_tools_and_packages(&settings.extra_clis, &settings.extra_packages);
    recipe.replace_tools(&settings.extra_files);
    let recipe = Arc::new(recipe);
    let inputs = Inputs::of(&recipe, settings)?;
    let store = ImageStore::open_locked(&settings.images_dir).map_err(|error| match error {
        LockError::Busy(pid) => BuildError::OtherBuildRunning { dir: settings.images_dir.clone(), pid },
        LockError::Io(path, source) => BuildError::Io { step: BuildStep::Check, path, source },
    })?;
    let io_error = |step| {
        let path = settings.images_dir.clone();
        move |source| BuildError::Io { step, path, source }
    };
    leftovers::remove_all_leftovers(&store, settings).await?;
    let images = store.list_images().map_err(io_error(BuildStep::Check))?;
    let existing = images.into_iter().find(|image| image.manifest.inputs_sha256 == inputs.image);
    let is_current = |image: &Image| {
        Image::open_current(&settings.images_dir).is_ok_and(|current| current.manifest == image.manifest)
    };
    if let Some(image) = existing.filter(|image| !settings.update_packages && is_current(image)) {
        let Manifest { packages, package_sha256, .. } = &image.manifest;
        check_packages(&PackageLock::embedded(), settings, packages, package_sha256)?;
        progress(ProgressReport::new(BuildStep::Publish, 1.0, "nothing has changed"));
        return Ok(BuildOutcome { image, unchanged: true, removed: 0 });
    }
    let root_dir = store.root_fs_dir(&inputs.root);
    let root = match RootFs::load_cached(&root_dir).filter(|_| !settings.update_packages) {
        Some(root) => {
            check_packages(&PackageLock::embedded(), settings, &root.packages, &root.package_sha256)?;
            progress(ProgressReport::new(BuildStep::RootFs, 1.0, "unchanged"));
            root
        }
        None => make_root(settings, &recipe, &store, &root_dir, &progress).await?,
    };
    progress(ProgressReport { step: BuildStep::Assemble, fraction: None, message: String::new() });
    let image = assemble::assemble_image(&store, &root, &root_dir, settings, &inputs).await?;
    progress(ProgressReport { step: BuildStep::SelfTest, fraction: None, message: String::new() });
    if let Err(error) = self_test(&image).await {
        if !is_current(&image) {
            std::fs::remove_dir_all(&image.dir).map_err(io_error(BuildStep::SelfTest))?;
        }
        return Err(BuildError::SelfTest(error));
    }
    store.make_current(&image).map_err(io_error(BuildStep::Publish))?;
    let removed = store.prune(settings.images_kept).map_err(io_error(BuildStep::Publish))?;
    progress(ProgressReport::new(BuildStep::Publish, 1.0, ""));
    Ok(BuildOutcome { image, unchanged: false, removed })
}

/// Makes the root file system. This is the only step that needs the host's tools.
async fn make_root(
    settings: &BuildSettings,
    recipe: &Arc<Recipe>,
    store: &ImageStore,
    root_dir: &Path,
    progress: &OnProgress,
) -> Result<RootFs, BuildError> {
    let missing = find_missing_requirements();
    if !missing.is_empty() {
        let missing = [BuildError::MissingRequirements(missing)];
        return Err(BuildError::of_all(missing.into_iter().chain(faults_of_additions(settings)).collect()));
    }
    progress(ProgressReport::new(BuildStep::Check, 1.0, ""));
    let scratch = store.create_scratch_dir().map_err(|source| BuildError::Io {
        step: BuildStep::Check,
        path: settings.images_dir.clone(),
        source,
    })?;
    let made = make_root_in(&scratch, settings, recipe, root_dir, progress).await;
    // Also after a failure. If the removal fails, the next build removes the directory.
    let removed = leftovers::remove_leftover(&scratch, settings).await;
    let root = made?;
    removed?;
    progress(ProgressReport::new(BuildStep::RootFs, 1.0, ""));
    Ok(root)
}

/// Makes the root file system with `scratch` as temporary directory.
async fn make_root_in(
    scratch: &Path,
    settings: &BuildSettings,
    recipe: &Arc<Recipe>,
    root_dir: &Path,
    progress: &OnProgress,
) -> Result<RootFs, BuildError> {
    let packages_dir = leftovers::create_packages_dir(scratch, &settings.scratch_dir)?;
    let (extra_files, hook) = verify_additions(settings, scratch)?;
    let build = RootFsBuildParameters {
        recipe,
        settings,
        demo_name_and_version: DEMO,
        scratch,
        packages_dir: &packages_dir,
        extra_files: &extra_files,
        hook: hook.as_ref(),
        progress: progress.clone(),
    };
    super::root_fs::build_root_fs(&build, root_dir).await
}

/// Everything that is wrong with the operator's files and script.
fn faults_of_additions(settings: &BuildSettings) -> Vec<BuildError> {
    let files = settings.extra_files.iter().filter_map(|file| file.check().err());
    files.chain(settings.hook.as_ref().and_then(|hook| hook.check().err())).collect()
}

/// Copies the operator's files and script to `scratch` and verifies them.
fn verify_additions(
    settings: &BuildSettings,
    scratch: &Path,
) -> Result<(Vec<VerifiedFile>, Option<HookRun>), BuildError> {
    let verify_hook = |hook: &Hook| {
        let copy = hook.verify(scratch.join("hook"))?;
        HookRun::new(hook, copy).map_err(|source| BuildError::Io {
            step: BuildStep::Check,
            path: scratch.to_owned(),
            source,
        })
    };
    let mut errors = Vec::new();
    let mut files = Vec::new();
    for (at, file) in settings.extra_files.iter().enumerate() {
        match file.verify(scratch.join(format!("extra-{at}"))) {
            Ok(verified) => files.push(verified),
            Err(error) => errors.push(error),
        }
    }
    let hook = settings.hook.as_ref().map(verify_hook).transpose().unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    if errors.is_empty() { Ok((files, hook)) } else { Err(BuildError::of_all(errors)) }
}

/// The inputs of an image.
struct Inputs {
    /// Hash of the root file system's inputs: recipe, guest files, demo tool.
    root: String,
    /// Hash of the image's inputs: the above and the agent.
    image: String,
    agent: Vec<u8>,
    agent_sha256: String,
}

impl Inputs {
    fn of(recipe: &Recipe, settings: &BuildSettings) -> Result<Self, BuildError> {
        let agent = static_program("the agent", "--agent", &settings.agent_binary);
        let demo = static_program("the demo tool", "--demo-cli", &settings.demo_binary);
        let (agent, demo) = match (agent, demo) {
            (Ok(agent), Ok(demo)) => (agent, demo),
            (agent, demo) => {
                let errors = [agent.err(), demo.err()].into_iter().flatten();
                return Err(BuildError::of_all(errors.chain(faults_of_additions(settings)).collect()));
            }
        };
        let mut root = Sha256::new();
        root.update(format!("root {ROOT_REVISION} level {}\n{} {}\n", settings.compression_level, DEMO.0, DEMO.1));
        recipe.update_hash(&mut root);
        for cli in &settings.extra_clis {
            root.update(format!("\n{cli:?}\n"));
        }
        for package in &settings.extra_packages {
            root.update(format!("\npackage {package:?}\n"));
        }
        // Not the path on this host: the content counts.
        for ExtraFile { sha256, path, mode, version, source: _ } in &settings.extra_files {
            root.update(format!("\nfile {path:?} {mode} {sha256} {version:?}\n"));
        }
        if let Some(Hook { sha256, network, script: _ }) = &settings.hook {
            root.update(format!("\nhook {sha256} {network}\n"));
        }
        root.update(Sha256::digest(&demo));
        let root = hex::encode(root.finalize());
        let agent_sha256 = hex::encode(Sha256::digest(&agent));
        let image = hex::encode(Sha256::digest(format!(
            "image {} {PROTOCOL_VERSION} {root} {agent_sha256}",
            super::MANIFEST_FORMAT
        )));
        Ok(Self { root, image, agent, agent_sha256 })
    }
}

/// Reads a program for the guest and checks that it is a static ELF file. `option` of the command line names another.
fn static_program(what: &str, option: &str, path: &Path) -> Result<Vec<u8>, BuildError> {
    const PROGRAM_BYTES_MAX: usize = 64 * 1024 * 1024;
    let invalid = |why: &str| BuildError::InvalidBinary { path: path.to_owned(), why: why.into() };
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(PROGRAM_BYTES_MAX);
        let mut content = vec![0; size];
        let got = read_up_to(&mut file, &mut content)?;
        content.truncate(got);
        Ok(content)
    };
    let content = read().map_err(|error| {
        let remedy = format!("`./up` builds it into the directory of `anteroom`; {option} FILE names another");
        invalid(&format!("({what} of the machines) cannot be read: {error}; {remedy}"))
    })?;
    match elf::why_not_static(&content) {
        Some(why) => Err(invalid(why)),
        None if content.len() == PROGRAM_BYTES_MAX => Err(invalid("is too large for a program of the guest")),
        None => Ok(content),
    }
}

#[cfg(test)]
mod tests;
