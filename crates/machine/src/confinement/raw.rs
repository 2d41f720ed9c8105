//! System calls for which no safe function exists in the libraries that this crate uses.
#![allow(unsafe_code, reason = "each function passes valid pointers to the kernel's documented structures")]

use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process::Pid,
};
use std::{io, mem, os::unix::net::UnixStream, ptr};

/// Namespaces of a new process: flags of clone(2).
pub(super) const USER_NAMESPACE: u64 = libc::CLONE_NEWUSER as u64;
/// All namespaces except the user namespace.
pub(super) const OTHER_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// The result of [`fork`].
pub(super) enum Forked {
    /// This is the new process.
    Child,
    /// The new process and a descriptor of it.
    Parent(Pid, OwnedFd),
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a new process in new namespaces, which continues here. Call it only in a process with one thread.
pub(super) fn fork(namespaces: u64) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    // Not clone3(2): containers deny it, because their filters cannot read its flags.
    let flags = namespaces | (libc::CLONE_PIDFD | libc::SIGCHLD) as u64;
    let (stack, child_tid, tls) = (0, 0, 0);
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, stack, &raw mut pidfd, child_tid, tls) })?;
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(Forked::Child) };
    Ok(Forked::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Ends this process without running destructors or exit handlers, which belong to the process that it was forked from.
pub(super) fn exit_now(code: i32) -> ! {
    unsafe { libc::_exit(code) }
}

/// Installs a filter and returns the descriptor on which its notifications arrive. While a thread waits for the answer to a
/// notification that was received, only a fatal signal interrupts it, if the kernel supports that (5.19).
pub(super) fn install_filter(program: &mut [libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    let install = |flags: libc::c_ulong| {
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
    };
    let fd = install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        .or_else(|_| install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER))?;
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Restricts this process to a Landlock ruleset.
pub(super) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// Executes an open program file. `argv` and `envp` end with a null pointer. Returns only an error.
pub(super) fn execute(
    program: BorrowedFd<'_>,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> io::Error {
    let (file, name, flags) = (program.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH);
    unsafe { libc::syscall(libc::SYS_execveat, file, name, argv.as_ptr(), envp.as_ptr(), flags) };
    io::Error::last_os_error()
}

/// Makes `number` refer to the same open file as `file`, without close-on-exec.
pub(super) fn duplicate_to(file: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    check(unsafe { libc::c_long::from(libc::dup2(file.as_raw_fd(), number)) }).map(drop)
}

/// Marks all descriptors from `first` on as close-on-exec.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Sends a byte with a descriptor.
pub(super) fn send_fd(socket: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket.as_fd(), &[io::IoSlice::new(b"l")], &mut control, rustix::net::SendFlags::empty())?;
    Ok(())
}

/// A system call of the VMM that waits for an answer: `struct seccomp_notif` (seccomp_unotify(2)).
#[repr(C)]
#[derive(Default)]
pub(super) struct Notification {
    pub(super) id: u64,
    pub(super) pid: u32,
    flags: u32,
    pub(super) number: i32,
    arch: u32,
    instruction_pointer: u64,
    pub(super) args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

// ioctl(2) requests of the listener: direction, size, type '!' and number (linux/seccomp.h).
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const ADD_FD: libc::c_ulong = 0x4018_2103;
const _: () = assert!(mem::size_of::<Notification>() == 0x50);
const _: () = assert!(mem::size_of::<Response>() == 0x18 && mem::size_of::<AddFd>() == 0x18);

/// Receives the next notification; blocks unless the listener is readable.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut notification = Notification::default();
    check(unsafe { libc::c_long::from(libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notification)) })?;
    Ok(notification)
}

/// Lets the kernel execute the call.
pub(super) fn allow(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    respond(listener, Response { id, value: 0, error: 0, flags: 1 })
}

/// Lets the call fail with `errno`.
pub(super) fn deny(listener: BorrowedFd<'_>, id: u64, errno: rustix::io::Errno) -> io::Result<()> {
    respond(listener, Response { id, value: 0, error: -errno.raw_os_error(), flags: 0 })
}

fn respond(listener: BorrowedFd<'_>, mut response: Response) -> io::Result<()> {
    check(unsafe { libc::c_long::from(libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response)) }).map(drop)
}

/// Answers a call that opens a file with a copy of `file`.
pub(super) fn answer_with(listener: BorrowedFd<'_>, id: u64, file: BorrowedFd<'_>) -> io::Result<()> {
    const ADD_AND_SEND: u32 = 2;
    let source = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let add = AddFd { id, flags: ADD_AND_SEND, source, number: 0, number_flags: libc::O_CLOEXEC as u32 };
    check(unsafe { libc::c_long::from(libc::ioctl(listener.as_raw_fd(), ADD_FD, &raw const add)) }).map(drop)
}

/// Replaces the VMM's descriptor `number` with a copy of `file`, and lets the call return 0 without executing it.
pub(super) fn replace_with(listener: BorrowedFd<'_>, id: u64, number: u64, file: BorrowedFd<'_>) -> io::Result<()> {
    const SET_NUMBER: u32 = 1;
    let source = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let number = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    let add = AddFd { id, flags: SET_NUMBER, source, number, number_flags: libc::O_CLOEXEC as u32 };
    check(unsafe { libc::c_long::from(libc::ioctl(listener.as_raw_fd(), ADD_FD, &raw const add)) })?;
    succeed(listener, id)
}

/// Lets the call return 0 without executing it.
pub(super) fn succeed(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    respond(listener, Response { id, value: 0, error: 0, flags: 0 })
}

/// Reads from the memory of another process; returns the number of bytes read, which are fewer if the next page is not mapped.
pub(super) fn read_memory(pid: Pid, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    const PAGE: usize = 4096;
    let address = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // A range that is not mapped ends the call at the beginning of that range, so each page is a range (process_vm_readv(2)).
    let first = (PAGE - address % PAGE).min(buffer.len());
    let second = address.checked_add(first).ok_or(io::ErrorKind::InvalidInput)?;
    let remote = |start: usize, length| libc::iovec { iov_base: ptr::without_provenance_mut(start), iov_len: length };
    let ranges = [remote(address, first), remote(second, (buffer.len() - first).min(PAGE))];
    let pid = pid.as_raw_nonzero().get();
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, ranges.as_ptr(), 2, 0) };
    let read = check(libc::c_long::try_from(read).unwrap_or(-1))?;
    Ok(usize::try_from(read).unwrap_or(0))
}

/// Writes the result of stat(2) for `file` into the memory of another process.
pub(super) fn write_status(pid: Pid, address: u64, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut status = mem::MaybeUninit::<libc::stat>::zeroed();
    check(unsafe { libc::c_long::from(libc::fstat(file.as_raw_fd(), status.as_mut_ptr())) })?;
    let size = mem::size_of::<libc::stat>();
    let local = libc::iovec { iov_base: status.as_mut_ptr().cast(), iov_len: size };
    let address = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: size };
    let pid = pid.as_raw_nonzero().get();
    let written = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    if usize::try_from(written) == Ok(size) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves this process into a namespace.
pub(super) fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    check(unsafe { libc::c_long::from(libc::setns(namespace.as_raw_fd(), 0)) }).map(drop)
}

/// Gives the process all its user and group ids at once and removes its supplementary groups, if it may.
pub(super) fn become_user(id: u32) -> io::Result<()> {
    unsafe {
        // Denied in a user namespace of an ordinary user, whose groups stay as they are.
        libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>());
        check(libc::syscall(libc::SYS_setresgid, id, id, id))?;
        check(libc::syscall(libc::SYS_setresuid, id, id, id))?;
    }
    Ok(())
}

/// The ids with which this process makes files.
pub(super) fn set_file_ids(id: u32) {
    unsafe {
        libc::syscall(libc::SYS_setfsgid, id);
        libc::syscall(libc::SYS_setfsuid, id);
    }
}
