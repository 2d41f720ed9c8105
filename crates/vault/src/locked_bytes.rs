//! Secret bytes in pages of their own.

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags},
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use zeroize::Zeroize;

/// Secret bytes. They are locked in memory, so that they are not written to swap; core dumps leave them out; dropping wipes them.
///
/// They are in pages that nothing else uses: the kernel locks whole pages, and unlocking the pages of one secret must not unlock
/// another.
pub struct LockedBytes {
    /// The first of the pages; dangling if `len` is 0.
    pages: NonNull<u8>,
    len: usize,
    lock_error: Option<Errno>,
}

// SAFETY: the pages belong to this value alone; access to them follows the borrow of this value.
#[allow(unsafe_code, reason = "a pointer to pages that this value owns")]
unsafe impl Send for LockedBytes {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "a pointer to pages that this value owns")]
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// `len` zeros.
    ///
    /// # Errors
    /// The kernel has no memory. If it only refuses to lock it, see [`Self::lock_error`].
    pub fn zeroed(len: usize) -> Result<Self, Errno> {
        if len == 0 {
            return Ok(Self { pages: NonNull::dangling(), len, lock_error: None });
        }
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new anonymous mapping at an address that the kernel chooses.
        #[allow(unsafe_code, reason = "maps pages that this value owns")]
        let pages = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) }?;
        let pages = NonNull::new(pages.cast::<u8>()).ok_or(Errno::NOMEM)?;
        // SAFETY: both calls are about the pages mapped above and change nothing of their content.
        #[allow(unsafe_code, reason = "about pages that this value owns")]
        let locked = unsafe {
            // Core dumps are switched off for the whole process, too; a kernel without this advice changes nothing.
            let _ = rustix::mm::madvise(pages.as_ptr().cast(), len, Advice::LinuxDontDump);
            rustix::mm::mlock(pages.as_ptr().cast(), len)
        };
        Ok(Self { pages, len, lock_error: locked.err() })
    }

    /// A copy of `bytes`. The caller wipes the original.
    ///
    /// # Errors
    /// As [`Self::zeroed`].
    pub fn copy_of(bytes: &[u8]) -> Result<Self, Errno> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }

    /// Why the bytes are not locked in memory; `None`: they are. Usually RLIMIT_MEMLOCK is too low.
    pub fn lock_error(&self) -> Option<Errno> {
        self.lock_error
    }
}

impl Deref for LockedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes of initialized pages that this value owns, or none at a dangling pointer.
        #[allow(unsafe_code, reason = "pages that this value owns")]
        unsafe {
            std::slice::from_raw_parts(self.pages.as_ptr(), self.len)
        }
    }
}

impl DerefMut for LockedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and this value is borrowed exclusively.
        #[allow(unsafe_code, reason = "pages that this value owns")]
        unsafe {
            std::slice::from_raw_parts_mut(self.pages.as_ptr(), self.len)
        }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.zeroize();
        if self.len > 0 {
            // SAFETY: the pages that were mapped with this length; nothing refers to them after this. Unmapping unlocks them.
            #[allow(unsafe_code, reason = "unmaps the pages that this value owns")]
            let _ = unsafe { rustix::mm::munmap(self.pages.as_ptr().cast(), self.len) };
        }
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// The `Locked` and `VmFlags` lines of the mapping that contains `address` (proc(5), `smaps`).
    fn mapping_of(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut found = false;
        let mut lines = String::new();
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bound = |text: &str| usize::from_str_radix(text, 16).ok();
            if let Some((Some(from), Some(to))) = range.map(|(from, to)| (bound(from), bound(to))) {
                found = (from..to).contains(&address);
            } else if found && (line.starts_with("Locked:") || line.starts_with("VmFlags:")) {
                lines.push_str(line);
                lines.push('\n');
            }
        }
        lines
    }

    #[test]
    fn bytes_are_locked_in_memory_and_left_out_of_core_dumps() {
        let secret = LockedBytes::copy_of(b"hunter2").unwrap();
        assert_eq!((&*secret, secret.lock_error()), (&b"hunter2"[..], None));
        let mapping = mapping_of(secret.as_ptr().addr());
        assert!(mapping.contains(" lo") && mapping.contains(" dd"), "{mapping}");
        assert!(!mapping.contains("Locked:                0 kB"), "{mapping}");
        assert_eq!(format!("{secret:?}"), "LockedBytes(7 bytes)");
    }

    #[test]
    fn empty_bytes_need_no_page() {
        let empty = LockedBytes::copy_of(b"").unwrap();
        assert!(empty.is_empty() && empty.lock_error().is_none());
    }

    /// The superuser may lock more than the limit, so this test gives up that capability. It changes only its own thread's capabilities,
    /// but the limit is of the process: nextest runs each test in a process of its own.
    #[test]
    fn bytes_beyond_the_limit_of_locked_memory_are_usable_and_report_the_cause() {
        let before = getrlimit(Resource::Memlock);
        let mut capabilities = rustix::thread::capabilities(None).unwrap();
        capabilities.effective.remove(rustix::thread::CapabilitySet::IPC_LOCK);
        rustix::thread::set_capabilities(None, capabilities).unwrap();
        setrlimit(Resource::Memlock, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
        let secret = LockedBytes::copy_of(b"hunter2").unwrap();
        assert_eq!(&*secret, b"hunter2");
        assert!(
            matches!(secret.lock_error(), Some(Errno::PERM | Errno::NOMEM | Errno::AGAIN)),
            "{:?}",
            secret.lock_error()
        );
    }
}
