//! Unfinished things of a build: where they are, and how they go, also after a crash.
//!
//! An ordinary user's mmdebstrap unpacks as other users (subuid(5)), so what a killed one leaves cannot be removed by the
//! user alone; mmdebstrap itself can (`--unshare-helper`). The directory is written down before mmdebstrap starts, and then
//! its process: when a build is killed, mmdebstrap goes on until it finds nobody to write to.

use super::{
    build_error::BuildError,
    build_settings::BuildSettings,
    program::{Program, kill_with_descendants},
    progress::Step,
    store::{self, ImageStore},
};
use crate::process::{self, ProcessId};
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

/// In a build's scratch directory: where mmdebstrap unpacks.
const NOTE: &str = "packages-dir";
/// In a build's scratch directory: which process mmdebstrap is.
const PROCESS: &str = "packages-process.json";
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(10);
const PACKAGES_PREFIX: &str = "anteroom-image-";

/// Makes the directory that mmdebstrap unpacks in, below `scratch_dir`, and writes its name into `scratch`.
pub(super) fn packages_dir(scratch: &Path, scratch_dir: &Path) -> Result<PathBuf, BuildError> {
    let make = || -> io::Result<PathBuf> {
        let dir = scratch_dir.join(format!("{PACKAGES_PREFIX}{}", store::random_name()?));
        store::write(&scratch.join(NOTE), dir.as_os_str().as_bytes())?;
        fs::create_dir(&dir)?;
        // The ids that stand for the guest's users must be able to pass.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
        Ok(dir)
    };
    make().map_err(|source| BuildError::Io { step: Step::Check, path: scratch_dir.to_owned(), source })
}

/// Writes down which process unpacks, so that a later build can end it when this one is killed.
pub(super) fn record_process(scratch: &Path, process: ProcessId) -> Result<(), BuildError> {
    let path = scratch.join(PROCESS);
    let text = serde_json::to_vec(&process).map_err(io::Error::from);
    text.and_then(|text| store::write(&path, &text)).map_err(|source| BuildError::Io {
        step: Step::Packages,
        path,
        source,
    })
}

/// Ends what a killed build left running. A process with the same number that is another one is left alone.
async fn end_process(scratch: &Path) {
    let Ok(text) = fs::read(scratch.join(PROCESS)) else { return };
    let Ok(process) = serde_json::from_slice::<ProcessId>(&text) else { return };
    let others = process::descendants(process.pid);
    if !process.is_alive() {
        return;
    }
    kill_with_descendants(process);
    let gone = async {
        while process.is_alive() || others.iter().any(|other| other.is_alive()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Whoever is still there makes the removal fail, which says where.
    let _ = tokio::time::timeout(GONE, gone).await;
}

/// Removes what crashed builds left.
pub(super) async fn clear(store: &ImageStore, settings: &BuildSettings) -> Result<(), BuildError> {
    let found = store.leftovers();
    let found = found.map_err(|source| BuildError::Io { step: Step::Check, path: store.dir.clone(), source })?;
    for scratch in found {
        end_process(&scratch).await;
        remove(&scratch, settings).await?;
    }
    Ok(())
}

/// Removes one build's scratch directory and what it unpacked elsewhere.
pub(super) async fn remove(scratch: &Path, settings: &BuildSettings) -> Result<(), BuildError> {
    let failed = |path: &Path, source| BuildError::Io { step: Step::Check, path: path.to_owned(), source };
    match fs::read(scratch.join(NOTE)) {
        Ok(note) => {
            let dir = PathBuf::from(OsString::from_vec(note));
            // Only ever a directory that a build made, whatever the note says.
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

/// Takes away what root's mmdebstrap mounted in the directory: it does so itself at its end, but not when it is killed. A mount that
/// stayed would keep the directory from being removed, or be emptied with it. An ordinary user's mounts went with their namespace.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    // Later mounts first: they may lie on earlier ones.
    for place in mounts_below(&table, dir).into_iter().rev() {
        rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The places in a mount table (proc_mounts(5)) that lie below a directory, in the table's order.
fn mounts_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    let place = |line: &str| {
        let place = line.split(' ').nth(1)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        Some(PathBuf::from(place))
    };
    table.lines().filter_map(place).filter(|place| place != dir && place.starts_with(dir)).collect()
}

async fn remove_packages(dir: &Path, settings: &BuildSettings) -> Result<(), BuildError> {
    unmount_below(dir).map_err(|source| BuildError::Io { step: Step::Check, path: dir.to_owned(), source })?;
    match fs::remove_dir_all(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(source) => return Err(BuildError::Io { step: Step::Check, path: dir.to_owned(), source }),
    }
    // What lies in it belongs to the user's other ids; the directory itself to the user. The helper empties what is inside,
    // but may not remove the names that stand in the user's own directory: it fails at those, and they are left to us.
    let limit = Duration::from_millis(settings.step_ms_max);
    let failed = |source| BuildError::Io { step: Step::Check, path: dir.to_owned(), source };
    let mut args: Vec<OsString> = ["--unshare-helper", "rm", "-rf", "--"].map(OsString::from).into();
    for entry in fs::read_dir(dir).map_err(failed)? {
        args.push(entry.map_err(failed)?.path().into_os_string());
    }
    let helped = Program::new(Step::Check, limit, Path::new("/"), "mmdebstrap", args).output().await;
    fs::remove_dir_all(dir).map_err(|source| helped.err().unwrap_or_else(|| failed(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_directory_are_taken_away() {
        let table = "proc /proc proc rw 0 0\nnone /var/tmp/x tmpfs rw 0 0\nsys /var/tmp/x/r/sys sysfs ro 0 0\n\
                     none /var/tmp/x/r/a\\040b devpts rw 0 0\nnone /var/tmp/xy/sys sysfs ro 0 0\n";
        let found = mounts_below(table, Path::new("/var/tmp/x"));
        assert_eq!(found, [PathBuf::from("/var/tmp/x/r/sys"), PathBuf::from("/var/tmp/x/r/a b")]);
    }
}
