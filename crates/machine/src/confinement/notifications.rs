//! The keeper's answers to the system calls of a VMM that its filter does not allow.

use super::{
    raw,
    spawn::{OpenFile, OpenListener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
    process::Pid,
};
use std::collections::{BTreeMap, BTreeSet};
use syscalls::Sysno;

/// Calls that only the start of a VMM needs: they find libraries and firmware, and install the VMM's own filter.
const START_CALLS: &[Sysno] = &[
    Sysno::open,
    Sysno::openat,
    Sysno::access,
    Sysno::faccessat,
    Sysno::faccessat2,
    Sysno::stat,
    Sysno::lstat,
    Sysno::readlink,
    Sysno::readlinkat,
    Sysno::statfs,
    Sysno::fstatfs,
    Sysno::getdents64,
    Sysno::getcwd,
    Sysno::get_mempolicy,
    Sysno::set_mempolicy,
    Sysno::mbind,
    Sysno::memfd_create,
    Sysno::seccomp,
    Sysno::prctl,
    Sysno::sched_setaffinity,
    Sysno::sched_getparam,
    Sysno::sched_getscheduler,
    Sysno::umask,
    Sysno::getppid,
    Sysno::listen,
];
/// Calls that are answered as by a kernel that does not have them, since each has an older call that takes its place: clone(2), whose
/// flags the filter can read, and the event loop's ppoll(2). Not counted as denied.
const ABSENT_CALLS: &[Sysno] = &[Sysno::clone3, Sysno::io_uring_setup];
/// Calls that no VMM makes: one that makes them is controlled by an attacker, and is killed at once.
const HOSTILE_CALLS: &[Sysno] = &[
    Sysno::execve,
    Sysno::execveat,
    Sysno::fork,
    Sysno::vfork,
    Sysno::clone,
    Sysno::ptrace,
    Sysno::process_vm_readv,
    Sysno::process_vm_writev,
    Sysno::pidfd_getfd,
    Sysno::mount,
    Sysno::umount2,
    Sysno::pivot_root,
    Sysno::setns,
    Sysno::unshare,
    Sysno::bpf,
    Sysno::perf_event_open,
    Sysno::init_module,
    Sysno::finit_module,
    Sysno::kexec_load,
];
/// Denied calls after which the VMM is killed.
const DENIED_CALLS_MAX: u32 = 1_000;
/// The longest path that is compared with those of the named files, bytes.
const PATH_BYTES_MAX: usize = 128;

/// The most paths that are kept of those that a VMM was denied to open.
const DENIED_PATHS_MAX: usize = 32;

/// What a VMM was denied.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// How often each system call was denied, by name.
    pub(crate) calls: BTreeMap<String, u32>,
    /// The first paths that it was denied to open.
    pub(crate) paths: BTreeSet<String>,
}

/// A system call for which the VMM is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The name of the call.
    pub(crate) system_call: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The program is not executed yet.
    BeforeExecution,
    /// The VMM loads its libraries and makes its devices.
    Starting,
    /// The VMM has started.
    Sealed,
}

enum Answer {
    Allow,
    File(usize),
    Listener(usize),
    Status(usize),
    /// The call does not exist.
    Absent,
    Deny(Errno),
    Kill,
}

/// Receives and answers the notifications of one VMM.
pub(super) struct Notifications {
    listener: OwnedFd,
    files: Vec<OpenFile>,
    listeners: Vec<OpenListener>,
    progress: Progress,
    denials: Denials,
    has_callers: bool,
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Notifications {
    pub(super) fn new(listener: OwnedFd, files: Vec<OpenFile>, listeners: Vec<OpenListener>) -> Self {
        Self {
            listener,
            files,
            listeners,
            progress: Progress::BeforeExecution,
            denials: Denials::default(),
            has_callers: true,
        }
    }

    /// Whether a thread is left that the filter applies to.
    pub(super) fn has_callers(&self) -> bool {
        self.has_callers
    }

    /// Denies from now on what only the start needs, and closes the files and listeners that only the start needs.
    pub(super) fn seal(&mut self) {
        self.progress = Progress::Sealed;
        self.files.retain(|file| !file.start_only);
        self.listeners.clear();
    }

    pub(super) fn close_files(&mut self) {
        self.files.clear();
        self.listeners.clear();
    }

    pub(super) fn denials(&self) -> &Denials {
        &self.denials
    }

    /// Answers the notifications that have arrived. Returns the call for which the VMM must be killed.
    pub(super) fn answer_pending(&mut self, vmm: Pid) -> Option<Violation> {
        // Receiving blocks if there is none.
        while self.is_readable() {
            if let Some(violation) = self.answer_next(vmm) {
                return Some(violation);
            }
        }
        None
    }

    fn is_readable(&mut self) -> bool {
        let mut files = [PollFd::new(&*self, PollFlags::IN)];
        let _ = rustix::event::poll(&mut files, Some(&Timespec::default()));
        let events = files[0].revents();
        // The kernel hangs up when the last thread has ended. A poll that includes it would return at once, again and again.
        if events.contains(PollFlags::HUP) {
            self.has_callers = false;
        }
        events.contains(PollFlags::IN)
    }

    fn answer_next(&mut self, vmm: Pid) -> Option<Violation> {
        // An error means that the thread which made the call has ended.
        let Ok(notification) = raw::receive(self.as_fd()) else { return None };
        let call = usize::try_from(notification.number).ok().and_then(Sysno::new);
        let answer = call.map_or(Answer::Deny(Errno::NOSYS), |call| self.decide(call, vmm, &notification));
        let id = notification.id;
        let name = || call.map_or_else(|| format!("number {}", notification.number), |call| call.name().to_owned());
        match answer {
            Answer::Allow => _ = raw::allow(self.as_fd(), id),
            Answer::File(index) => {
                if let Some(file) = self.files.get(index) {
                    // QEMU opens a kernel twice and reads it from the beginning, so each has its own offset.
                    let opened = reopen(file.file.as_fd());
                    let _ = raw::answer_with(self.as_fd(), id, opened.as_ref().map_or(file.file.as_fd(), AsFd::as_fd));
                }
            }
            Answer::Status(index) => {
                let written = self
                    .files
                    .get(index)
                    .is_some_and(|file| raw::write_status(vmm, notification.args[1], file.file.as_fd()).is_ok());
                let _ =
                    if written { raw::succeed(self.as_fd(), id) } else { raw::deny(self.as_fd(), id, Errno::NOENT) };
            }
            Answer::Listener(index) => {
                if let Some(open) = self.listeners.get(index) {
                    let _ = raw::replace_with(self.as_fd(), id, notification.args[0], open.listener.as_fd());
                }
            }
            Answer::Absent => _ = raw::deny(self.as_fd(), id, Errno::NOSYS),
            Answer::Deny(errno) => {
                if let Some(call) = call {
                    self.record_denied_path(call, vmm, &notification);
                }
                let denials = self.denials.calls.entry(name()).or_default();
                *denials = denials.saturating_add(1);
                let _ = raw::deny(self.as_fd(), id, errno);
                // A guest that connects to a vsock port of the host makes Firecracker call socket(2).
                let counted = self.denials.calls.iter().filter(|(name, _)| *name != Sysno::socket.name());
                let denials = counted.map(|(_, denials)| *denials).fold(0, u32::saturating_add);
                if self.progress == Progress::Sealed && denials > DENIED_CALLS_MAX {
                    return Some(Violation { system_call: name() });
                }
            }
            // Not answered: the thread waits until it is killed.
            Answer::Kill => return Some(Violation { system_call: name() }),
        }
        None
    }

    fn decide(&mut self, call: Sysno, vmm: Pid, notification: &raw::Notification) -> Answer {
        match self.progress {
            Progress::BeforeExecution if call == Sysno::execveat => {
                self.progress = Progress::Starting;
                Answer::Allow
            }
            _ if HOSTILE_CALLS.contains(&call) => Answer::Kill,
            Progress::Starting if START_CALLS.contains(&call) => {
                // Firecracker asks for the length of a snapshot by its path.
                let named = [(Sysno::open, 0), (Sysno::openat, 1), (Sysno::stat, 0)];
                let path = named.iter().find(|(named, _)| *named == call).map(|(_, index)| notification.args[*index]);
                let answer = if call == Sysno::stat { Answer::Status } else { Answer::File };
                path.and_then(|path| self.named_file(vmm, path)).map_or(Answer::Allow, answer)
            }
            // A socket that the VMM makes becomes one of the keeper's when it is bound; others cannot be bound.
            Progress::Starting if self.may_listen(call, notification) => Answer::Allow,
            Progress::Starting if call == Sysno::bind => {
                self.named_listener(vmm, notification.args[1]).map_or(Answer::Deny(Errno::PERM), Answer::Listener)
            }
            // A file that is written at the end, such as a snapshot of a template.
            Progress::Sealed if matches!(call, Sysno::open | Sysno::openat) => {
                let path = notification.args[usize::from(call == Sysno::openat)];
                self.named_file(vmm, path).map_or(Answer::Deny(Errno::PERM), Answer::File)
            }
            _ if ABSENT_CALLS.contains(&call) => Answer::Absent,
            Progress::BeforeExecution | Progress::Starting | Progress::Sealed => Answer::Deny(Errno::PERM),
        }
    }

    fn record_denied_path(&mut self, call: Sysno, vmm: Pid, notification: &raw::Notification) {
        let paths = &mut self.denials.paths;
        if !matches!(call, Sysno::open | Sysno::openat) || paths.len() >= DENIED_PATHS_MAX {
            return;
        }
        if let Some(path) = read_name(vmm, notification.args[usize::from(call == Sysno::openat)]) {
            paths.insert(String::from_utf8_lossy(&path).replace(char::is_control, "\u{fffd}"));
        }
    }

    /// Whether the call makes a Unix socket and the VMM has a listener left to bind.
    fn may_listen(&self, call: Sysno, notification: &raw::Notification) -> bool {
        let unix = u64::from(rustix::net::AddressFamily::UNIX.as_raw());
        !self.listeners.is_empty() && call == Sysno::socket && notification.args[0] == unix
    }

    /// The listener whose name is in the `sockaddr_un` at `address` (unix(7)): the name follows the two bytes of the family.
    fn named_listener(&self, vmm: Pid, address: u64) -> Option<usize> {
        let name = read_name(vmm, address.checked_add(2)?)?;
        self.listeners.iter().position(|listener| listener.name.as_bytes() == name)
    }

    fn named_file(&self, vmm: Pid, path: u64) -> Option<usize> {
        let name = read_name(vmm, path)?;
        self.files.iter().position(|file| file.name.as_bytes() == name)
    }
}

/// The text at `address` in the memory of the VMM, up to its null byte.
fn read_name(vmm: Pid, address: u64) -> Option<Vec<u8>> {
    let mut buffer = [0; PATH_BYTES_MAX];
    let read = raw::read_memory(vmm, address, &mut buffer).ok()?;
    buffer.get(..read)?.split(|byte| *byte == 0).next().map(<[u8]>::to_vec)
}

/// Opens a file again with the same access.
fn reopen(file: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let access = rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE;
    rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), access | OFlags::CLOEXEC, Mode::empty())
}
