//! The root file system: mmdebstrap's packages, filtered and packed into a squashfs file, without unpacking them on this host.
//!
//! ```text
//!  mmdebstrap ── tar ──▶ filter ── tar ──▶ mksquashfs ──▶ rootfs.squashfs
//!                         │ drops files by the recipe, clears set-user-id bits, sets all times to one value
//!                         │ adds guest files, links, tools
//!                         └─▶ kernel, modules, list of packages
//! ```
//!
//! The result is cached by the hash of its inputs, so that a new agent does not require a new root file system.

use super::{
    Artefact, FormatCheck, artefact_of,
    build_command::{BuildCommand, RunningCommand},
    build_error::BuildError,
    check_packages::check_packages,
    elf, fetch_tools,
    hook::HookRun,
    host_requirements,
    initramfs::KernelModule,
    kernel, leftovers, not_a_kernel, not_a_squashfs,
    package_lock::{PackageHashes, PackageLock},
    progress::{BuildStep, ProgressReport},
    root_fs_build_parameters::RootFsBuildParameters,
    store,
};
use filter::FilterOutput;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io,
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

mod filter;

const ROOT_FILE: &str = "rootfs.squashfs";
const KERNEL_FILE: &str = "vmlinux";
const SUMMARY_FILE: &str = "root.json";
const MODULES_DIR: &str = "modules";
/// The preferences of apt, in the temporary directory of a build.
const PREFERENCES_FILE: &str = "preferences";

/// The description of a cached root file system: `root.json` in its directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootFs {
    pub(super) rootfs: Artefact,
    pub(super) kernel: Artefact,
    pub(super) kernel_version: String,
    pub(super) kernel_options: Vec<String>,
    /// Module files in load order.
    modules: Vec<String>,
    pub(super) packages: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) package_sha256: BTreeMap<String, String>,
    pub(super) clis: BTreeMap<String, String>,
}

impl RootFs {
    /// The cached root file system in `dir`, if it exists and is complete.
    pub(super) fn load_cached(dir: &Path) -> Option<Self> {
        let root: Self = serde_json::from_slice(&fs::read(dir.join(SUMMARY_FILE)).ok()?).ok()?;
        let whole = [&root.rootfs, &root.kernel]
            .into_iter()
            .all(|artefact| fs::metadata(dir.join(&artefact.file)).is_ok_and(|file| file.len() == artefact.bytes));
        whole.then_some(root)
    }

    /// Reads the modules from the root file system's directory.
    pub(super) fn read_modules(&self, dir: &Path) -> io::Result<Vec<KernelModule>> {
        let read = |file: &String| {
            fs::read(dir.join(MODULES_DIR).join(file)).map(|content| KernelModule { file: file.clone(), content })
        };
        self.modules.iter().map(read).collect()
    }
}

/// Makes a root file system and publishes it atomically as `dir`, which does not exist yet.
pub(super) async fn build_root_fs(build: &RootFsBuildParameters<'_>, dir: &Path) -> Result<RootFs, BuildError> {
    let new = build.scratch.join("root");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io { step: BuildStep::RootFs, path, source }
    };
    fs::create_dir_all(new.join(MODULES_DIR)).map_err(io(&new))?;
    let root_file = new.join(ROOT_FILE);
    let filtered = fetch_and_squash(build, &root_file).await?;
    for file in &build.recipe.required_paths {
        if !filtered.paths.contains(file) {
            return Err(missing_file(file));
        }
    }
    check_head(&root_file, not_a_squashfs)?;
    unpack_kernel(build, &filtered, &new).await?;
    let modules = unpack_modules(build, &filtered, &new).await?;
    let (rootfs, kernel) = (artefact_of(&root_file, ROOT_FILE), artefact_of(&new.join(KERNEL_FILE), KERNEL_FILE));
    let packages = kernel::parse_installed_packages(&String::from_utf8_lossy(&filtered.dpkg_status));
    let package_sha256 = hashes_of(&packages, &filtered.package_hashes);
    check_packages(&PackageLock::embedded(), build.settings, &packages, &package_sha256)?;
    let mut clis = build.tool_versions();
    let extra = build.settings.extra_packages.iter();
    clis.extend(extra.filter_map(|name| packages.get_key_value(name)).map(|(name, it)| (name.clone(), it.clone())));
    let root = RootFs {
        rootfs: rootfs.map_err(io(&new))?,
        kernel: kernel.map_err(io(&new))?,
        kernel_version: filtered.kernel_version,
        kernel_options: build.recipe.kernel_options.clone(),
        modules,
        packages,
        package_sha256,
        clis,
    };
    let summary = serde_json::to_vec_pretty(&root)
        .map_err(|error| BuildError::Unexpected { step: BuildStep::RootFs, what: error.to_string() })?;
    store::write_synced(&new.join(SUMMARY_FILE), &summary).map_err(io(&new))?;
    store::publish(&new, dir).map_err(io(dir))?;
    Ok(root)
}

/// Package → SHA-256 of the installed packages.
fn hashes_of(packages: &BTreeMap<String, String>, hashes: &PackageHashes) -> BTreeMap<String, String> {
    let hash = |(name, version): (&String, &String)| {
        Some((name.clone(), hashes.get(&(name.clone(), version.clone()))?.clone()))
    };
    packages.iter().filter_map(hash).collect()
}

/// Downloads the tools and makes the root file system `to` of them and the packages.
async fn fetch_and_squash(build: &RootFsBuildParameters<'_>, to: &Path) -> Result<FilterOutput, BuildError> {
    let cache = build.settings.images_dir.join(store::TOOLS_CACHE_DIR);
    let limit = Duration::from_millis(build.settings.step_ms_max);
    let (tools, when_fetched) = oneshot::channel();
    let stop = CancellationToken::new();
    // The tools are downloaded while the packages are installed; a failure of one stops the other.
    let fetching = async {
        let fetched =
            fetch_tools::fetch_tools(&build.recipe.clis, &cache, build.scratch, limit, &*build.progress).await;
        match fetched {
            // Sending fails if the other side has failed; its error is returned below.
            Ok(fetched) => drop(tools.send(filter::Tool::from_fetched(&fetched))),
            Err(error) => {
                stop.cancel();
                drop(tools);
                return Err(error);
            }
        }
        Ok(())
    };
    let (fetched, filtered) = tokio::join!(fetching, squash(build, when_fetched, to, &stop));
    fetched?;
    filtered
}

fn missing_file(file: &str) -> BuildError {
    BuildError::Unexpected {
        step: BuildStep::RootFs,
        what: format!("the root file system lacks {file}: the packages of the recipe no longer contain it"),
    }
}

fn check_head(path: &Path, check: FormatCheck) -> Result<(), BuildError> {
    let mut head = [0; 1024];
    let got = File::open(path)
        .and_then(|mut file| super::read_up_to(&mut file, &mut head))
        .map_err(|source| BuildError::Io { step: BuildStep::RootFs, path: path.to_owned(), source })?;
    match check(&head[..got]) {
        None => Ok(()),
        Some(why) => Err(BuildError::Unexpected { step: BuildStep::RootFs, what: format!("{} {why}", path.display()) }),
    }
}

/// Starts mmdebstrap, which writes a tar to standard output. Only the release's name is passed: mmdebstrap knows the
/// distribution's mirrors, including those for security updates.
fn start_packages(build: &RootFsBuildParameters<'_>) -> Result<RunningCommand, BuildError> {
    let recipe = build.recipe;
    let mode = if rustix::process::geteuid().is_root() { "root" } else { "unshare" };
    let mut args: Vec<OsString> = vec![
        format!("--mode={mode}").into(),
        "--variant=essential".into(),
        "--architectures=amd64".into(),
        "--format=tar".into(),
        "--aptopt=APT::Install-Recommends \"false\"".into(),
        // Without this, a mirror that fails in part would result in a smaller image.
        "--aptopt=APT::Update::Error-Mode \"any\"".into(),
        "--aptopt=Acquire::Retries \"3\"".into(),
        // The lists have the hashes of the packages. They are read from the tar, and are not part of the image.
        "--aptopt=Acquire::GzipIndexes \"false\"".into(),
        "--skip=cleanup/apt/lists".into(),
        format!("--include={}", recipe.packages.join(",")).into(),
    ];
    args.extend(recipe.unpack_excludes.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}").into()));
    if !build.settings.update_packages {
        let preferences = build.scratch.join(PREFERENCES_FILE);
        fs::write(&preferences, PackageLock::embedded().to_preferences()).map_err(|source| BuildError::Io {
            step: BuildStep::Packages,
            path: preferences.clone(),
            source,
        })?;
        args.push(format!("--setup-hook=upload '{}' /etc/apt/preferences.d/anteroom", preferences.display()).into());
    }
    if let Some(hook) = build.hook {
        args.extend(hook.options(build.packages_dir, build.extra_files)?);
    }
    if let Some(keyring) = host_requirements::debian_keyring_path() {
        let mut arg = OsString::from("--keyring=");
        arg.push(keyring);
        args.push(arg);
    }
    args.push((&recipe.suite).into());
    args.push("-".into());
    let limit = Duration::from_millis(build.settings.step_ms_max);
    (build.progress)(ProgressReport::new(BuildStep::Packages, 0.0, "starting"));
    BuildCommand::new(BuildStep::Packages, limit, Path::new("/"), "mmdebstrap", args)
        .env("TMPDIR", Some(&build.packages_dir.to_string_lossy()))
        .env("SOURCE_DATE_EPOCH", Some(&recipe.source_date_epoch_s.to_string()))
        .start()
}

/// The progress of mmdebstrap by its log lines (measured on two cores with a fast mirror).
fn packages_fraction(line: &str) -> Option<(f32, &'static str)> {
    const LOG_LINES: [(&str, f32, &str); 7] = [
        ("running apt-get update", 0.03, "reading the package lists"),
        ("downloading packages", 0.08, "downloading packages"),
        ("extracting archives", 0.35, "unpacking the base"),
        ("installing essential", 0.40, "installing the base"),
        ("installing remaining", 0.45, "installing the desktop"),
        ("cleaning apt cache", 0.98, "cleaning up"),
        ("creating tarball", 1.0, "installed"),
    ];
    LOG_LINES.iter().find(|(text, ..)| line.contains(text)).map(|&(_, fraction, note)| (fraction, note))
}

/// Runs mmdebstrap, the filter and mksquashfs as a pipeline.
async fn squash(
    build: &RootFsBuildParameters<'_>,
    tools: oneshot::Receiver<Vec<filter::Tool>>,
    to: &Path,
    stop: &CancellationToken,
) -> Result<FilterOutput, BuildError> {
    let mut packages = start_packages(build)?;
    if let Some(process) = packages.process_id() {
        leftovers::record_process(build.scratch, process)?;
    }
    let mut squashing = start_mksquashfs(build, to)?;
    let pipes = packages.child.stdout.take().zip(squashing.child.stdin.take());
    let pipe_error = |source| BuildError::Io { step: BuildStep::RootFs, path: to.to_owned(), source };
    let (from, into) = pipes.ok_or_else(|| pipe_error(io::Error::other("the pipe is missing")))?;
    let from = File::from(from.into_owned_fd().map_err(pipe_error)?);
    let into = File::from(into.into_owned_fd().map_err(pipe_error)?);
    let additions = filter::Additions::new(build, tools).map_err(pipe_error)?;
    let recipe = build.recipe.clone();
    let progress = build.progress.clone();
    let filtering =
        tokio::task::spawn_blocking(move || filter::filter_packages(&recipe, from, into, additions, &*progress));
    let on_line = |line: &str| {
        if let Some(hook) = build.hook {
            hook.on_line(line);
        }
        if let Some((fraction, text)) = packages_fraction(line) {
            (build.progress)(ProgressReport::new(BuildStep::Packages, fraction, text));
        }
    };
    let (packages, squashing, filtered) =
        tokio::join!(packages.wait_success(stop, on_line), squashing.wait_success(stop, |_| ()), filtering);
    // The first program of the pipeline that failed is the cause; the others only got a closed pipe.
    packages.map_err(|error| build.hook.and_then(HookRun::failure).unwrap_or(error))?;
    let filtered = match filtered {
        Ok(filtered) => filtered,
        Err(error) => Err(io::Error::other(error)),
    };
    match (filtered, squashing) {
        (Ok(filtered), Ok(())) => Ok(filtered),
        (Err(error), Err(squashing)) if error.kind() == io::ErrorKind::BrokenPipe => Err(squashing),
        (Err(source), _) => Err(pipe_error(source)),
        (Ok(_), Err(squashing)) => Err(squashing),
    }
}

fn start_mksquashfs(build: &RootFsBuildParameters<'_>, to: &Path) -> Result<RunningCommand, BuildError> {
    let level = build.settings.compression_level.to_string();
    let epoch = build.recipe.source_date_epoch_s.to_string();
    let args: [OsString; 21] = [
        "-".into(),
        to.into(),
        "-tar".into(),
        "-noappend".into(),
        "-no-progress".into(),
        "-quiet".into(),
        "-no-xattrs".into(),
        "-comp".into(),
        "zstd".into(),
        "-Xcompression-level".into(),
        level.into(),
        "-mkfs-time".into(),
        epoch.clone().into(),
        "-all-time".into(),
        epoch.into(),
        // The tar has no entry for the root directory, and releases before 4.6 use only its mode. In a machine, `/` belongs to
        // the overlay, so the builder's user id is not visible there.
        "-root-mode".into(),
        "755".into(),
        "-root-uid".into(),
        "0".into(),
        "-root-gid".into(),
        "0".into(),
    ];
    let limit = Duration::from_millis(build.settings.step_ms_max);
    BuildCommand::new(BuildStep::RootFs, limit, Path::new("/"), "mksquashfs", args)
        .env("SOURCE_DATE_EPOCH", None)
        .stdin(Stdio::piped())
        .start()
}

async fn unpack_kernel(
    build: &RootFsBuildParameters<'_>,
    filtered: &FilterOutput,
    dir: &Path,
) -> Result<(), BuildError> {
    let invalid = |error: &dyn std::fmt::Display| BuildError::Unexpected {
        step: BuildStep::RootFs,
        what: format!("the kernel {} {error}", filtered.kernel_version),
    };
    kernel::check_built_in_options(&filtered.kernel_config, &build.recipe.kernel_options)
        .map_err(|error| invalid(&error))?;
    let payload = kernel::find_payload(&filtered.kernel).map_err(|error| invalid(&error))?;
    let packed = build.scratch.join("vmlinux.zst");
    fs::write(&packed, payload).map_err(|source| BuildError::Io {
        step: BuildStep::RootFs,
        path: packed.clone(),
        source,
    })?;
    let kernel = dir.join(KERNEL_FILE);
    let args: [OsString; 6] = ["-d".into(), "-q".into(), "-f".into(), "-o".into(), (&kernel).into(), (&packed).into()];
    let limit = Duration::from_millis(build.settings.step_ms_max);
    BuildCommand::new(BuildStep::RootFs, limit, dir, "zstd", args).run_for_output().await?;
    check_head(&kernel, not_a_kernel)?;
    let content =
        fs::read(&kernel).map_err(|source| BuildError::Io { step: BuildStep::RootFs, path: kernel.clone(), source })?;
    match elf::pvh_entry(&content) {
        Some(_) => Ok(()),
        None => Err(invalid(&"has no PVH entry, by which QEMU's microvm and Firecracker start a kernel")),
    }
}

/// Unpacks the recipe's modules and their dependencies; returns their file names in load order.
async fn unpack_modules(
    build: &RootFsBuildParameters<'_>,
    filtered: &FilterOutput,
    dir: &Path,
) -> Result<Vec<String>, BuildError> {
    let unexpected = |what: String| BuildError::Unexpected { step: BuildStep::RootFs, what };
    let order = kernel::module_load_order(&filtered.modules_dep, &filtered.modules_builtin, &build.recipe.modules)
        .map_err(|error| unexpected(format!("the kernel {} {error}", filtered.kernel_version)))?;
    let dir = dir.join(MODULES_DIR);
    let limit = Duration::from_millis(build.settings.step_ms_max);
    let mut files = Vec::new();
    for path in order {
        let packed =
            filtered.modules.get(&path).ok_or_else(|| unexpected(format!("the kernel's package lacks {path}")))?;
        let name = format!("{}.ko", kernel::module_name(&path));
        let at = dir.join(format!("{name}.xz"));
        fs::write(&at, packed).map_err(|source| BuildError::Io {
            step: BuildStep::RootFs,
            path: at.clone(),
            source,
        })?;
        BuildCommand::new(BuildStep::RootFs, limit, &dir, "xz", [OsString::from("-d"), "-q".into(), at.into()])
            .run_for_output()
            .await?;
        files.push(name);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_of_the_packages_step_only_grows() {
        let log = [
            "I: running apt-get update...",
            "I: downloading packages with apt...",
            "I: extracting archives...",
            "I: installing essential packages...",
            "I: installing remaining packages inside the chroot...",
            "I: skipping cleanup/apt/lists as requested",
            "I: cleaning apt cache...",
            "I: creating tarball...",
        ];
        let fractions: Vec<f32> =
            log.iter().filter_map(|line| packages_fraction(line)).map(|(fraction, _)| fraction).collect();
        assert_eq!(fractions.len(), log.len() - 1, "each step but the one that is skipped");
        assert!(fractions.is_sorted());
        assert_eq!(packages_fraction("W: something else"), None);
    }
}
