//! The machine's process: started with exactly the file descriptors of its spec, and killed by the kernel when the keeper dies.

use super::tail_buffer::TailBuffer;
use crate::{
    procfs::ProcessId,
    spec::{FdSource, ProcessSpec},
};
use rustix::{
    fs::FlockOperation,
    process::{Pid, PidfdFlags, Signal},
};
use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio},
};

/// The largest descriptor number that a spec may use; the keeper's copies have larger numbers.
const NUMBER_MAX: RawFd = 63;
/// Maximum bytes read from one stream at a time, so that a process with much output does not delay commands.
const DRAIN_BYTES_MAX: usize = 256 * 1024;

/// The machine's process and the keeper's ends of its sockets and pipes. Dropping it leaves the process running.
pub(crate) struct VmmProcess {
    child: Child,
    pub(crate) id: ProcessId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) console: Option<UnixStream>,
    /// Files that are locked while the machine uses them.
    _locked: Vec<File>,
}

/// The keeper's ends of the process's files.
#[derive(Default)]
struct KeeperFds {
    console: Option<UnixStream>,
    qmp: Option<UnixStream>,
    locked: Vec<File>,
}

fn open(what: &FdSource, keeper_fds: &mut KeeperFds) -> io::Result<OwnedFd> {
    match what {
        FdSource::Listen { name } => Ok(UnixListener::bind(name)?.into()),
        FdSource::Qmp => {
            let (ours, theirs) = UnixStream::pair()?;
            keeper_fds.qmp = Some(ours);
            Ok(theirs.into())
        }
        FdSource::Console => {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            keeper_fds.console = Some(ours);
            Ok(theirs.into())
        }
        FdSource::Read { path } => {
            let file = File::open(path)?;
            // The keeper and the process share one open file description; the lock is held until both have closed it.
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
            keeper_fds.locked.push(file.try_clone()?);
            Ok(file.into())
        }
    }
}

/// Runs in the child between fork and exec: only system calls, no allocation.
fn become_vmm(keeper: Pid, files: &[(OwnedFd, RawFd)]) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The keeper may have died before the line above.
    if rustix::process::getppid() != Some(keeper) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    for (file, number) in files {
        #[allow(unsafe_code, reason = "the number is this child's to use: the keeper's files all lie above NUMBER_MAX")]
        let mut target = unsafe { OwnedFd::from_raw_fd(*number) };
        let duplicated = rustix::io::dup2(file, &mut target);
        std::mem::forget(target);
        duplicated?;
    }
    Ok(())
}

/// Occupies every free number that a spec may use. `Command` reports a failed exec through an internal pipe: if its number
/// were at most [`NUMBER_MAX`], a file of the child could replace it, and a missing program would seem to have started.
fn occupy_numbers() -> io::Result<Vec<File>> {
    let mut occupied = Vec::new();
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() > NUMBER_MAX {
            return Ok(occupied);
        }
        occupied.push(file);
    }
}

/// Starts the process. Returns it and the QMP socket, if the spec has one.
pub(crate) fn spawn(spec: &ProcessSpec) -> io::Result<(VmmProcess, Option<UnixStream>)> {
    let mut keeper_fds = KeeperFds::default();
    let mut files = Vec::new();
    for inherited in &spec.fds {
        if !(3..=NUMBER_MAX).contains(&inherited.number) {
            return Err(io::Error::other(format!("descriptor number {} is not between 3 and 63", inherited.number)));
        }
        let opened = open(&inherited.source, &mut keeper_fds)
            .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", inherited.source)))?;
        // Duplicated above all numbers of the spec, so that dup2 in the child cannot overwrite another file.
        files.push((rustix::io::fcntl_dupfd_cloexec(opened.as_fd(), NUMBER_MAX + 1)?, inherited.number));
    }
    let keeper = rustix::process::getpid();
    #[allow(clippy::disallowed_methods, reason = "the keeper is what starts a machine's process")]
    let mut command = std::process::Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(&spec.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[allow(unsafe_code, reason = "the closure makes system calls only, as pre_exec demands")]
    unsafe {
        command.pre_exec(move || become_vmm(keeper, &files));
    }
    let occupied = occupy_numbers()?;
    let spawned = command.spawn();
    drop((command, occupied));
    let mut child = spawned?;
    let identified = identify(&child);
    if identified.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let (id, pidfd) = identified?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    for pipe in [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    Ok((
        VmmProcess { child, id, pidfd, stdout, stderr, console: keeper_fds.console, _locked: keeper_fds.locked },
        keeper_fds.qmp,
    ))
}

fn identify(child: &Child) -> io::Result<(ProcessId, OwnedFd)> {
    let pid = Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let id = ProcessId::from_pid(child.id()).ok_or(io::ErrorKind::NotFound)?;
    Ok((id, pidfd))
}

impl VmmProcess {
    /// The exit status, once the process has exited.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills the process, if it is running, and waits for it.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Reads the output that has arrived; a stream at its end is closed.
    pub(crate) fn read_output(&mut self, console: &mut TailBuffer, output: &mut TailBuffer) {
        read_output(&mut self.console, console);
        read_output(&mut self.stdout, output);
        read_output(&mut self.stderr, output);
    }
}

fn read_output<S: Read + AsRawFd>(slot: &mut Option<S>, tail_buffer: &mut TailBuffer) {
    let Some(stream) = slot else { return };
    let mut chunk = [0u8; 4096];
    let mut total = 0;
    while total < DRAIN_BYTES_MAX {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => {
                tail_buffer.push(chunk.get(..count).unwrap_or_default());
                total += count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {
                *slot = None;
                return;
            }
        }
    }
}
