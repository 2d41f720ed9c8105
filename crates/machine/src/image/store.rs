//! The images directory: one build at a time, atomic publication, removal of unused images.

use super::{Image, MANIFEST_FILE};
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

/// The symbolic link to the image for new machines.
pub(super) const CURRENT_LINK: &str = "current";
/// Directory of the command-line tools' packages.
pub(super) const TOOLS_CACHE_DIR: &str = "cache/tools";
/// Directory of the root file systems, by the hash of their inputs.
const ROOTS_CACHE: &str = "cache/roots";
const LOCK: &str = "lock";
const SCRATCH_PREFIX: &str = "tmp-";
/// Number of root file systems to keep: the newest, and one more for a rollback.
const ROOTS_KEPT: usize = 2;

/// The images directory, locked by this build.
#[derive(Debug)]
pub(super) struct ImageStore {
    pub(super) dir: PathBuf,
    _lock: File,
}

/// Why the images directory cannot be locked.
pub(super) enum LockError {
    /// Another build is running; its process id, if it could be read.
    Busy(Option<u32>),
    Io(PathBuf, io::Error),
}

impl ImageStore {
    /// Creates the directory if it is missing, and locks it for one build. The lock ends with the process.
    pub(super) fn open_locked(dir: &Path) -> Result<Self, LockError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| LockError::Io(path, error)
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join(LOCK);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = open.map_err(io(&path))?;
        if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(LockError::Io(path, error.into()));
            }
            let mut holder = String::new();
            // Without a readable process id the message is only less precise.
            let _ = lock.take(20).read_to_string(&mut holder);
            return Err(LockError::Busy(holder.trim().parse().ok()));
        }
        let write_pid = |lock: &mut File| -> io::Result<()> {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(io(&path))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Temporary directories of earlier builds, which have all ended because this build has the lock.
    pub(super) fn list_leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Creates a temporary directory for this build.
    pub(super) fn create_scratch_dir(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join(format!("{SCRATCH_PREFIX}{}", random_name()?));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// The directory for the root file system with these inputs.
    pub(super) fn root_fs_dir(&self, key: &str) -> PathBuf {
        self.dir.join(ROOTS_CACHE).join(key)
    }

    /// All valid images, newest first.
    pub(super) fn list_images(&self) -> io::Result<Vec<Image>> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.path().join(MANIFEST_FILE).is_file() && is_hash(&entry.file_name())
            {
                // Images that cannot be opened (another layout, damaged) are skipped.
                images.extend(Image::open(&entry.path()).ok());
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.manifest.built_at_unix_s));
        Ok(images)
    }

    /// Makes `image` the image for new machines.
    pub(super) fn make_current(&self, image: &Image) -> io::Result<()> {
        let name = image.dir.file_name().ok_or_else(|| io::Error::other("the image's directory has no name"))?;
        let new = self.dir.join(format!("{SCRATCH_PREFIX}{CURRENT_LINK}"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        symlink(name, &new)?;
        fs::rename(&new, self.dir.join(CURRENT_LINK))?;
        sync(&self.dir)
    }

    /// Removes all but the `keep` newest images, except the current one and those that a template or a machine uses.
    /// Returns how many were removed.
    pub(super) fn prune(&self, keep: usize) -> io::Result<usize> {
        let current = Image::open_current(&self.dir).ok();
        let is_current =
            |image: &Image| current.as_ref().is_some_and(|current| current.manifest.hash == image.manifest.hash);
        let mut images = self.list_images()?;
        // The current image counts as one to keep, even if another was built within the same second.
        images.sort_by_key(|image| !is_current(image));
        let mut removed = 0;
        for image in images.into_iter().skip(keep.max(1)) {
            if !is_current(&image) && remove_unless_used(&image, current.as_ref())? {
                removed += 1;
            }
        }
        self.prune_roots()?;
        Ok(removed)
    }

    fn prune_roots(&self) -> io::Result<()> {
        let mut roots = Vec::new();
        let cached = match fs::read_dir(self.dir.join(ROOTS_CACHE)) {
            // All images were fetched.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            cached => cached?,
        };
        for entry in cached {
            let entry = entry?;
            roots.push((entry.metadata()?.modified()?, entry.path()));
        }
        roots.sort();
        roots.reverse();
        // An image has hard links to the files, so it remains complete.
        roots.into_iter().skip(ROOTS_KEPT).try_for_each(|(_, root)| fs::remove_dir_all(root))
    }
}

/// Removes the image unless it is locked. Users of an image hold a shared lock on its initial file system ([`Image::lock`]);
/// keepers hold one on the files that their machines read. A root file system that the current image shares is not checked:
/// the exclusive lock would, for a moment, prevent new machines from starting, and running machines have the file open.
fn remove_unless_used(image: &Image, current: Option<&Image>) -> io::Result<bool> {
    let inode = |image: &Image| fs::metadata(image.rootfs_path()).map(|file| file.ino()).ok();
    let mut paths = vec![image.initramfs_path()];
    if current.and_then(inode) != inode(image) {
        paths.push(image.rootfs_path());
    }
    let mut locks = Vec::new();
    for path in paths {
        let file = File::open(path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        locks.push(file);
    }
    fs::remove_dir_all(&image.dir)?;
    Ok(true)
}

/// Sixteen random hex digits.
pub(super) fn random_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(hex::encode(random))
}

fn is_hash(name: &std::ffi::OsStr) -> bool {
    name.len() == 64 && name.to_string_lossy().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes a file and waits until it is on the disk.
pub(super) fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Renames a complete directory to its final name. Its files are synced first, so that the name never refers to incomplete
/// files. An older directory with that name is replaced.
pub(super) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    sync_below(from)?;
    let parent = to.parent().ok_or_else(|| io::Error::other("the directory has no parent"))?;
    fs::create_dir_all(parent)?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::rename(from, to)?;
    sync(parent)
}

fn sync_below(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        } else {
            sync(&entry.path())?;
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
