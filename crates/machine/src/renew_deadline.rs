//! The renew deadline of a host in a cluster, as its keepers see it: one file of 8 bytes in the run directory.
//!
//! The server maps the file and writes a time into it after each acknowledged heartbeat; each keeper maps it read-only, and ends its
//! machine at that time. So the machines end in time while the server is stopped, was killed, or cannot write to its disk: the file's
//! block is allocated when the file is made. The times are those of CLOCK_BOOTTIME, which goes on while a host is suspended.

use rustix::{
    mm::{MapFlags, ProtFlags},
    time::{ClockId, clock_gettime},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The file's name in the run directory of a server.
pub const RENEW_DEADLINE_FILE: &str = "renew_deadline";
/// Its size.
const FILE_BYTES: usize = size_of::<AtomicU64>();
/// No keeper ends its machine.
const NEVER_MS: u64 = u64::MAX;

/// CLOCK_BOOTTIME, milliseconds.
pub(crate) fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// A mapped file with one time.
struct Mapping {
    time_ms: NonNull<AtomicU64>,
}

// SAFETY: the mapping belongs to this value until it is dropped, and its one number is accessed atomically.
#[allow(unsafe_code, reason = "an atomic number in a mapping that this value owns")]
unsafe impl Send for Mapping {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "an atomic number in a mapping that this value owns")]
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File, access: ProtFlags) -> io::Result<Self> {
        if file.metadata()?.len() != FILE_BYTES as u64 {
            return Err(io::Error::other(format!("it does not have {FILE_BYTES} bytes")));
        }
        // SAFETY: a new mapping at an address that the kernel chooses; the file has all its bytes.
        #[allow(unsafe_code, reason = "maps a file that no process of this program shortens")]
        let mapped = unsafe { rustix::mm::mmap(std::ptr::null_mut(), FILE_BYTES, access, MapFlags::SHARED, file, 0) }?;
        let time_ms = NonNull::new(mapped.cast::<AtomicU64>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { time_ms })
    }

    fn time_ms(&self) -> &AtomicU64 {
        // SAFETY: the mapping is aligned to a page and exists as long as this value.
        #[allow(unsafe_code, reason = "an atomic number in a mapping that this value owns")]
        unsafe {
            self.time_ms.as_ref()
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing refers to it any more.
        #[allow(unsafe_code, reason = "unmaps what this value owns")]
        // It cannot fail for a whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.time_ms.as_ptr().cast(), FILE_BYTES) };
    }
}

/// The server's side of the file.
pub struct RenewDeadlineFile {
    path: PathBuf,
    mapping: Mapping,
}

impl RenewDeadlineFile {
    /// The file in `run_dir`, which is created if it does not exist. Its time remains: keepers of an earlier server have mapped it. The
    /// time of a new file is over.
    ///
    /// # Errors
    /// The file cannot be created or mapped.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(run_dir)?;
        let path = run_dir.join(RENEW_DEADLINE_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.clone().create_new(true).open(&path) {
            Ok(mut file) => file.write_all(&[0; FILE_BYTES]).and_then(|()| file.sync_all()).inspect_err(|_| {
                // A shorter file would be refused at every later start.
                let _ = fs::remove_file(&path);
            })?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let mapping = Mapping::new(&options.open(&path)?, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self { path, mapping })
    }

    /// For a server without a cluster: removes the file of an earlier one, if there is one. Keepers that have mapped it no longer end
    /// their machines.
    ///
    /// # Errors
    /// The file exists and cannot be mapped or removed.
    pub fn remove(run_dir: &Path) -> io::Result<()> {
        if !run_dir.join(RENEW_DEADLINE_FILE).exists() {
            return Ok(());
        }
        let file = Self::open(run_dir)?;
        file.set(NEVER_MS);
        fs::remove_file(&file.path)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The time in the file, CLOCK_BOOTTIME milliseconds.
    pub fn get(&self) -> u64 {
        self.mapping.time_ms().load(Ordering::Acquire)
    }

    /// Keepers end their machines at this time, CLOCK_BOOTTIME milliseconds. One write to memory: it neither blocks nor fails.
    pub fn set(&self, boottime_ms: u64) {
        self.mapping.time_ms().store(boottime_ms, Ordering::Release);
    }
}

impl std::fmt::Debug for RenewDeadlineFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RenewDeadlineFile").field("path", &self.path).field("time_ms", &self.get()).finish()
    }
}

/// A keeper's side of the file.
pub(crate) struct KeeperDeadline(Mapping);

impl KeeperDeadline {
    /// Maps the file for reading.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Mapping::new(&File::open(path)?, ProtFlags::READ).map(Self)
    }

    /// How long the machine may go on unless the time in the file changes.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_millis(self.0.time_ms().load(Ordering::Acquire).saturating_sub(boottime_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeper_sees_each_time_that_the_server_writes() {
        let dir = tempfile::tempdir().unwrap();
        let server = RenewDeadlineFile::open(dir.path()).unwrap();
        let keeper = KeeperDeadline::open(server.path()).unwrap();
        assert_eq!(keeper.left(), Duration::ZERO);
        server.set(boottime_ms() + 60_000);
        assert!(keeper.left() > Duration::from_secs(50));
        drop(server);
        let next = RenewDeadlineFile::open(dir.path()).unwrap();
        assert!(keeper.left() > Duration::from_secs(50), "the next server leaves the time as it is");
        next.set(0);
        assert_eq!(keeper.left(), Duration::ZERO);
    }

    #[test]
    fn server_without_a_cluster_releases_the_keepers_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        RenewDeadlineFile::remove(dir.path()).unwrap();
        let server = RenewDeadlineFile::open(dir.path()).unwrap();
        let keeper = KeeperDeadline::open(server.path()).unwrap();
        RenewDeadlineFile::remove(dir.path()).unwrap();
        assert!(!server.path().exists());
        assert!(keeper.left() > Duration::from_secs(1_000_000));
    }

    #[test]
    fn file_of_another_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RENEW_DEADLINE_FILE), [0; 3]).unwrap();
        assert!(RenewDeadlineFile::open(dir.path()).unwrap_err().to_string().contains("8 bytes"));
    }
}
