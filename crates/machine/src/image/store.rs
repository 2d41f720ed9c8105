//! Where images lie: one build at a time, appearing whole, and nothing removed that something uses.

use super::{Image, MANIFEST_FILE, hex};
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

/// The link to the image that new machines are made from.
pub(super) const CURRENT: &str = "current";
/// Packages of command-line tools.
pub(super) const TOOLS_CACHE: &str = "cache/tools";
/// Root file systems by the hash of what they were made from.
const ROOTS_CACHE: &str = "cache/roots";
const LOCK: &str = "lock";
const SCRATCH_PREFIX: &str = "tmp-";
/// Roots kept: the newest, and the one before for going back.
const ROOTS_KEPT: usize = 2;

/// The images directory, held by this build alone.
#[derive(Debug)]
pub(super) struct ImageStore {
    pub(super) dir: PathBuf,
    _lock: File,
}

/// Why the shelf is not ours.
pub(super) enum LockError {
    /// Another build runs, in this process if its number could be read.
    Busy(Option<u32>),
    Io(PathBuf, io::Error),
}

impl ImageStore {
    /// Takes the directory (made if missing) for one build. The lock goes with the process.
    pub(super) fn lock(dir: &Path) -> Result<Self, LockError> {
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
            // Without a readable number the message only says less.
            let _ = lock.take(20).read_to_string(&mut holder);
            return Err(LockError::Busy(holder.trim().parse().ok()));
        }
        let tell = |lock: &mut File| -> io::Result<()> {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        tell(&mut lock).map_err(io(&path))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Unfinished directories of earlier builds: those all ended, since the lock is ours.
    pub(super) fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// A new directory for this build's unfinished files.
    pub(super) fn scratch(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join(format!("{SCRATCH_PREFIX}{}", random_name()?));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Where the root made from these inputs lies, if it was made.
    pub(super) fn root_dir(&self, key: &str) -> PathBuf {
        self.dir.join(ROOTS_CACHE).join(key)
    }

    /// Every image that can be opened, the newest first.
    pub(super) fn images(&self) -> io::Result<Vec<Image>> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.path().join(MANIFEST_FILE).is_file() && is_hash(&entry.file_name())
            {
                // What cannot be opened (another layout, damaged) is no image for us; it is removed below when it is old.
                images.extend(Image::open(&entry.path()).ok());
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.manifest.built_at_unix_s));
        Ok(images)
    }

    /// Makes `image` the one that new machines are made from.
    pub(super) fn make_current(&self, image: &Image) -> io::Result<()> {
        let name = image.dir.file_name().ok_or_else(|| io::Error::other("the image's directory has no name"))?;
        let new = self.dir.join(format!("{SCRATCH_PREFIX}{CURRENT}"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        symlink(name, &new)?;
        fs::rename(&new, self.dir.join(CURRENT))?;
        sync(&self.dir)
    }

    /// Removes images beyond the `keep` newest, but never the current one and none that a template or a machine uses.
    /// Returns how many went.
    pub(super) fn prune(&self, keep: usize) -> io::Result<usize> {
        let current = Image::current(&self.dir).ok();
        let is_current =
            |image: &Image| current.as_ref().is_some_and(|current| current.manifest.hash == image.manifest.hash);
        let mut images = self.images()?;
        // One of those to keep, also when another was built within the same second.
        images.sort_by_key(|image| !is_current(image));
        let mut gone = 0;
        for image in images.into_iter().skip(keep.max(1)) {
            if !is_current(&image) && remove_unless_used(&image, current.as_ref())? {
                gone += 1;
            }
        }
        self.prune_roots()?;
        Ok(gone)
    }

    fn prune_roots(&self) -> io::Result<()> {
        let mut roots = Vec::new();
        for entry in fs::read_dir(self.dir.join(ROOTS_CACHE))? {
            let entry = entry?;
            roots.push((entry.metadata()?.modified()?, entry.path()));
        }
        roots.sort();
        roots.reverse();
        // An image holds its own links to a root's files, so nothing is taken from it.
        roots.into_iter().skip(ROOTS_KEPT).try_for_each(|(_, root)| fs::remove_dir_all(root))
    }
}

/// Who uses an image holds a shared lock on its initial file system ([`Image::hold`]); a keeper holds one on what its
/// machine reads. A root that the current image shares is not asked: our lock, short as it is, would refuse a machine that
/// starts at this moment, and machines that run have their files open, whatever they are called.
fn remove_unless_used(image: &Image, current: Option<&Image>) -> io::Result<bool> {
    let inode = |image: &Image| fs::metadata(image.rootfs()).map(|file| file.ino()).ok();
    let mut own = vec![image.initramfs()];
    if current.and_then(inode) != inode(image) {
        own.push(image.rootfs());
    }
    let mut locks = Vec::new();
    for path in own {
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
    Ok(hex(&random))
}

fn is_hash(name: &std::ffi::OsStr) -> bool {
    name.len() == 64 && name.to_string_lossy().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes a file and waits until it is on the disk.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Gives a finished directory its name: its files reach the disk first, so that a name is never on half a thing. An older
/// directory of that name is replaced.
pub(super) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    sync_below(from)?;
    let above = to.parent().ok_or_else(|| io::Error::other("a directory without a place"))?;
    fs::create_dir_all(above)?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::rename(from, to)?;
    sync(above)
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
