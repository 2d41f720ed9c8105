//! Temporary directories of a build, and their removal, also after a crash.
//!
//! For an unprivileged user, mmdebstrap unpacks files that belong to other user ids (subuid(5)). The user cannot remove them,
//! but `mmdebstrap --unshare-helper` can. The directory is recorded before mmdebstrap starts, and then its process: when a
//! build is killed, mmdebstrap continues until the write to its closed pipe fails.

use super::{
    build_command::{BuildCommand, kill_with_descendants},
    build_error::BuildError,
    build_settings::BuildSettings,
    progress::BuildStep,
    store::{self, ImageStore},
};
use crate::procfs::{self, ProcessId};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// File in a build's temporary directory: the path of the directory in which mmdebstrap unpacks.
const PACKAGES_DIR_FILE: &str = "packages-dir";
/// File in a build's temporary directory: the process of mmdebstrap.
const PROCESS_FILE: &str = "packages-process.json";
/// How long killed processes may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
const PACKAGES_PREFIX: &str = "anteroom-image-";

/// Creates the directory in which mmdebstrap unpacks, below `scratch_dir`, and records its path in `scratch`.
pub(super) fn create_packages_dir(scratch: &Path, scratch_dir: &Path) -> Result<PathBuf, BuildError> {
    let make = || -> io::Result<PathBuf> {
        let dir = scratch_dir.join(format!("{PACKAGES_PREFIX}{}", store::random_name()?));
        store::write_synced(&scratch.join(PACKAGES_DIR_FILE), dir.as_os_str().as_bytes())?;
        fs::create_dir(&dir)?;
        // The subordinate user ids must be able to traverse it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
        Ok(dir)
    };
    make().map_err(|source| BuildError::Io { step: BuildStep::Check, path: scratch_dir.to_owned(), source })
}

/// Records the process of mmdebstrap, so that a later build can end it if this one is killed.
pub(super) fn record_process(scratch: &Path, process: ProcessId) -> Result<(), BuildError> {
    let path = scratch.join(PROCESS_FILE);
    let text = serde_json::to_vec(&process).map_err(io::Error::from);
    text.and_then(|text| store::write_synced(&path, &text)).map_err(|source| BuildError::Io {
        step: BuildStep::Packages,
        path,
        source,
    })
}

/// Ends the mmdebstrap of a killed build, unless its process id was reused.
async fn end_process(scratch: &Path) {
    let Ok(text) = fs::read(scratch.join(PROCESS_FILE)) else { return };
    let Ok(process) = serde_json::from_slice::<ProcessId>(&text) else { return };
    let others = procfs::descendants(process.pid);
    if !process.is_alive() {
        return;
    }
    kill_with_descendants(process);
    let exited = async {
        while process.is_alive() || others.iter().any(|other| other.is_alive()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // If a process is still running, the removal below fails with the path.
    let _ = tokio::time::timeout(EXIT_TIMEOUT, exited).await;
}

/// Whether this is the temporary directory of a build, which has more to remove than the directory.
pub(super) fn is_of_build(scratch: &Path) -> bool {
    [PACKAGES_DIR_FILE, PROCESS_FILE].iter().any(|file| scratch.join(file).exists())
}

/// Removes the temporary directories of all earlier builds.
pub(super) async fn remove_all_leftovers(store: &ImageStore, settings: &BuildSettings) -> Result<(), BuildError> {
    let found = store.list_leftovers();
    let found = found.map_err(|source| BuildError::Io { step: BuildStep::Check, path: store.dir.clone(), source })?;
    for scratch in found {
        end_process(&scratch).await;
        remove_leftover(&scratch, settings).await?;
    }
    Ok(())
}

/// Removes one build's temporary directory and the directory in which its mmdebstrap unpacked.
pub(super) async fn remove_leftover(scratch: &Path, settings: &BuildSettings) -> Result<(), BuildError> {
    let failed = |path: &Path, source| BuildError::Io { step: BuildStep::Check, path: path.to_owned(), source };
    match fs::read(scratch.join(PACKAGES_DIR_FILE)) {
        Ok(recorded) => {
            let dir = PathBuf::from(OsString::from_vec(recorded));
            // Only a directory with a build's prefix is removed, whatever the file contains.
            let is_ours = dir.file_name().is_some_and(|name| name.as_bytes().starts_with(PACKAGES_PREFIX.as_bytes()));
            if is_ours && dir.is_absolute() {
                remove_packages(&dir, settings).await?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(scratch, source)),
    }
    fs::remove_dir_all(scratch).map_err(|source| failed(scratch, source))
}

/// Unmounts what root's mmdebstrap mounted in the directory. It unmounts them itself unless it is killed. A remaining mount would
/// prevent the removal, or be emptied by it. For an unprivileged user the mounts are in a namespace and vanish with it.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    // Later mounts first: they may be on top of earlier ones.
    for mount_point in mounts_below(&table, dir).into_iter().rev() {
        rustix::mount::unmount(&mount_point, rustix::mount::UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The mount points of a mount table (proc_mounts(5)) below a directory, in the table's order.
fn mounts_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    let mount_point = |line: &str| {
        let path = line.split(' ').nth(1)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        Some(PathBuf::from(path))
    };
    table.lines().filter_map(mount_point).filter(|path| path != dir && path.starts_with(dir)).collect()
}

async fn remove_packages(dir: &Path, settings: &BuildSettings) -> Result<(), BuildError> {
    unmount_below(dir).map_err(|source| BuildError::Io { step: BuildStep::Check, path: dir.to_owned(), source })?;
    match fs::remove_dir_all(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(source) => return Err(BuildError::Io { step: BuildStep::Check, path: dir.to_owned(), source }),
    }
    // The directory belongs to the user, the files in it to subordinate ids. The helper removes the contents of the entries, but
    // fails to remove the entries themselves from the user's directory; `remove_dir_all` removes those afterwards.
    let limit = Duration::from_millis(settings.step_ms_max);
    let failed = |source| BuildError::Io { step: BuildStep::Check, path: dir.to_owned(), source };
    let mut args: Vec<OsString> = ["--unshare-helper", "rm", "-rf", "--"].map(OsString::from).into();
    for entry in fs::read_dir(dir).map_err(failed)? {
        args.push(entry.map_err(failed)?.path().into_os_string());
    }
    let helper = BuildCommand::new(BuildStep::Check, limit, Path::new("/"), "mmdebstrap", args).run_for_output().await;
    fs::remove_dir_all(dir).map_err(|source| helper.err().unwrap_or_else(|| failed(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_directory_are_unmounted() {
        let table = "proc /proc proc rw 0 0\nnone /var/tmp/x tmpfs rw 0 0\nsys /var/tmp/x/r/sys sysfs ro 0 0\n\
                     none /var/tmp/x/r/a\\040b devpts rw 0 0\nnone /var/tmp/xy/sys sysfs ro 0 0\n";
        let found = mounts_below(table, Path::new("/var/tmp/x"));
        assert_eq!(found, [PathBuf::from("/var/tmp/x/r/sys"), PathBuf::from("/var/tmp/x/r/a b")]);
    }
}
