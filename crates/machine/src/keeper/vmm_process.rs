//! The machine's process: started with exactly the file descriptors of its spec, and killed by the kernel when the keeper dies.

use super::tail_buffer::TailBuffer;
use crate::{
    confinement::{self, ConfinedProcess, Execution, OpenFile, OpenListener, SpawnError},
    firecracker::{API_NAME, LOG_NAME},
    image::elf,
    procfs::ProcessId,
    spec::{Confinement, FdSource, FileAccess, Monitor, NamedFile, NamedListener, ProcessSpec, ResourceLimits},
    verified_files::FileStamp,
};
use rustix::{
    fs::FlockOperation,
    pipe::PipeFlags,
    process::{Pid, PidfdFlags, Signal},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
};

/// The largest descriptor number that a spec may use; the keeper's copies have larger numbers.
const NUMBER_MAX: RawFd = 63;
/// Maximum bytes read from one stream at a time, so that a process with much output does not delay commands.
const DRAIN_BYTES_MAX: usize = 256 * 1024;

/// The machine's process and the keeper's ends of its sockets and pipes. Dropping it leaves the process running.
pub(crate) struct VmmProcess {
    process: Process,
    pub(crate) id: ProcessId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    pub(crate) console: Option<UnixStream>,
    /// Files that are locked while the machine uses them.
    _locked: Vec<File>,
}

enum Process {
    Unconfined(Child),
    Confined { process: Box<ConfinedProcess>, exit_status: Option<ExitStatus> },
}

type Verified = BTreeMap<PathBuf, FileStamp>;

/// The keeper's ends of the process's files.
#[derive(Default)]
struct KeeperFds {
    console: Option<UnixStream>,
    monitor: Option<UnixStream>,
    locked: Vec<File>,
}

fn open(what: &FdSource, verified: &Verified, keeper_fds: &mut KeeperFds) -> io::Result<OwnedFd> {
    match what {
        FdSource::Listen { name } => Ok(UnixListener::bind(name)?.into()),
        FdSource::Qmp => {
            let (ours, theirs) = UnixStream::pair()?;
            keeper_fds.monitor = Some(ours);
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
            check_unchanged(&file, path, verified)?;
            // The keeper and the process share one open file description; the lock is held until both have closed it.
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
            keeper_fds.locked.push(file.try_clone()?);
            Ok(file.into())
        }
    }
}

/// Whether an open file is the one of which the content was verified.
fn check_unchanged(file: &File, path: &Path, verified: &Verified) -> io::Result<()> {
    match verified.get(path) {
        Some(stamp) if *stamp != FileStamp::of(file)? => {
            Err(io::Error::other("it was changed after its content was verified"))
        }
        Some(_) | None => Ok(()),
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

/// Starts the process. Returns it and the connection to its monitor, if it has one. `number` distinguishes the machines of this host.
pub(crate) fn spawn(spec: &ProcessSpec, number: u32) -> Result<(VmmProcess, Option<UnixStream>), SpawnError> {
    let at = |step: &str| {
        let step = step.to_owned();
        move |source: io::Error| SpawnError::Step { step, source }
    };
    let mut keeper_fds = KeeperFds::default();
    let api = match &spec.monitor {
        Monitor::None | Monitor::Qmp { .. } => None,
        Monitor::Firecracker { .. } => {
            let (listener, connection) = open_api_socket().map_err(at("the API socket cannot be made"))?;
            keeper_fds.monitor = Some(connection);
            Some(listener)
        }
    };
    let fds = open_fds(spec, &mut keeper_fds).map_err(at("a file of the process cannot be opened"))?;
    let (process, pid, stdout, stderr) = match &spec.confinement {
        Confinement::Unconfined if api.is_some() => {
            return Err(at("Firecracker runs only confined")(io::ErrorKind::InvalidInput.into()));
        }
        Confinement::Unconfined => spawn_unconfined(spec, fds).map_err(SpawnError::NotExecuted)?,
        Confinement::Confined { files, listeners, limits } => {
            let listeners = (listeners.as_slice(), api);
            spawn_confined(spec, fds, files, listeners, *limits, number)?
        }
    };
    let mut process = process;
    let identified = identify(pid).map_err(at("the process cannot be identified"));
    if identified.is_err() {
        process.kill();
    }
    let (id, pidfd) = identified?;
    for pipe in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(pipe, true).map_err(|error| at("a pipe cannot be used")(error.into()))?;
    }
    let (stdout, stderr) = (Some(stdout), Some(stderr));
    let vmm =
        VmmProcess { process, id, pidfd, stdout, stderr, console: keeper_fds.console, _locked: keeper_fds.locked };
    Ok((vmm, keeper_fds.monitor))
}

fn open_fds(spec: &ProcessSpec, keeper_fds: &mut KeeperFds) -> io::Result<Vec<(OwnedFd, RawFd)>> {
    let (fds, verified) = (&spec.fds, &spec.verified);
    let mut files = Vec::new();
    for inherited in fds {
        if !(1..=NUMBER_MAX).contains(&inherited.number) {
            return Err(io::Error::other(format!("descriptor number {} is not between 1 and 63", inherited.number)));
        }
        let opened = open(&inherited.source, verified, keeper_fds)
            .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", inherited.source)))?;
        // Duplicated above all numbers of the spec, so that dup2 in the child cannot overwrite another file.
        files.push((above_numbers(opened)?, inherited.number));
    }
    Ok(files)
}

fn above_numbers(file: OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&file, NUMBER_MAX + 1)?)
}

type Spawned = (Process, Pid, File, File);

fn spawn_unconfined(spec: &ProcessSpec, files: Vec<(OwnedFd, RawFd)>) -> io::Result<Spawned> {
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
    let pid = Pid::from_child(&child);
    let pipes = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
    let (Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    Ok((Process::Unconfined(child), pid, stdout.into(), stderr.into()))
}

fn spawn_confined(
    spec: &ProcessSpec,
    mut fds: Vec<(OwnedFd, RawFd)>,
    files: &[NamedFile],
    (listeners, api): (&[NamedListener], Option<OpenListener>),
    limits: ResourceLimits,
    number: u32,
) -> Result<Spawned, SpawnError> {
    let at = |step: String| move |source: io::Error| SpawnError::Step { step, source };
    let text =
        |text: &str| CString::new(text).map_err(|error| at(format!("{text:?} contains a zero byte"))(error.into()));
    let pipes = || -> io::Result<_> {
        let (stdout, stdout_of_vmm) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_of_vmm) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let null = File::open("/dev/null")?.into();
        let standard = [above_numbers(null)?, above_numbers(stdout_of_vmm)?, above_numbers(stderr_of_vmm)?];
        Ok((standard, File::from(stdout), File::from(stderr)))
    };
    let (standard, stdout, stderr) = pipes().map_err(at("a pipe cannot be made".to_owned()))?;
    for (file, number) in standard.into_iter().zip(0..) {
        if fds.iter().all(|(_, taken)| *taken != number) {
            fds.push((file, number));
        }
    }
    let open =
        |file: &NamedFile| open_named(file, &spec.verified).map_err(at(format!("{:?} cannot be opened", file.path)));
    let listen =
        |listener: &NamedListener| bind_named(listener).map_err(at(format!("{} cannot be bound", listener.socket)));
    let program = find_program(&spec.program).map_err(at(format!("{} cannot be found", spec.program)))?;
    let program = File::open(&program).map_err(SpawnError::NotExecuted)?;
    let libraries = needs_libraries(&program).map_err(at(format!("{} cannot be read", spec.program)))?;
    let program = above_numbers(program.into()).map_err(at("a descriptor cannot be duplicated".to_owned()))?;
    let args = std::iter::once(&spec.program).chain(&spec.args).map(|arg| text(arg)).collect::<Result<_, _>>()?;
    let env = spec.env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<_, _>>()?;
    let mut files = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut listeners = listeners.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
    if let Some(api) = api {
        listeners.push(api);
        files.push(log_file(&fds).map_err(at("a descriptor cannot be duplicated".to_owned()))?);
    }
    let process =
        confinement::spawn(Execution { program, libraries, args, env, fds, files, listeners, limits, number })?;
    let pid = process.pid;
    Ok((Process::Confined { process: Box::new(process), exit_status: None }, pid, stdout, stderr))
}

/// The listener that Firecracker's API socket becomes, and a connection to it. No other process can connect.
fn open_api_socket() -> io::Result<(OpenListener, UnixStream)> {
    let listener = UnixListener::bind(API_NAME)?;
    let connection = UnixStream::connect(API_NAME);
    std::fs::remove_file(API_NAME)?;
    let listener = OpenListener { name: API_NAME.to_owned(), listener: above_numbers(listener.into())? };
    Ok((listener, connection?))
}

/// Firecracker's log is part of its output. It is a pipe, since the sizes of files are limited.
fn log_file(fds: &[(OwnedFd, RawFd)]) -> io::Result<OpenFile> {
    let stderr = fds.iter().find(|(_, number)| *number == 2).ok_or(io::ErrorKind::NotFound)?;
    Ok(OpenFile { name: LOG_NAME.to_owned(), file: above_numbers(stderr.0.try_clone()?)?, start_only: true })
}

fn open_named(file: &NamedFile, verified: &Verified) -> io::Result<OpenFile> {
    let mut options = File::options();
    let start_only = match file.access {
        FileAccess::ReadOnly | FileAccess::ReadWrite => {
            options.read(true).write(file.access == FileAccess::ReadWrite);
            true
        }
        FileAccess::WriteNew => {
            options.read(true).write(true).create_new(true).mode(0o600);
            false
        }
    };
    let opened = options.open(&file.path)?;
    check_unchanged(&opened, &file.path, verified)?;
    Ok(OpenFile { name: file.name.clone(), file: above_numbers(opened.into())?, start_only })
}

fn bind_named(listener: &NamedListener) -> io::Result<OpenListener> {
    let bound = UnixListener::bind(&listener.socket)?;
    Ok(OpenListener { name: listener.name.clone(), listener: above_numbers(bound.into())? })
}

/// Whether a program is not static. Unknown formats count as such: the kernel decides whether it executes them.
fn needs_libraries(program: &File) -> io::Result<bool> {
    let mut head = vec![0; elf::ELF_HEADERS_BYTES];
    let read = rustix::io::pread(program, &mut head, 0)?;
    Ok(elf::why_not_static(head.get(..read).unwrap_or_default()).is_some())
}

/// The program of that path, or of that name in `PATH`.
fn find_program(program: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn identify(pid: Pid) -> io::Result<(ProcessId, OwnedFd)> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let pid = u32::try_from(pid.as_raw_nonzero().get()).map_err(io::Error::other)?;
    let id = ProcessId::from_pid(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok((id, pidfd))
}

impl Process {
    fn exit_status(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Unconfined(child) => child.try_wait().ok().flatten(),
            Self::Confined { process, exit_status } => {
                if exit_status.is_none() {
                    *exit_status = process.exit_status();
                }
                *exit_status
            }
        }
    }

    fn kill(&mut self) {
        match self {
            Self::Unconfined(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Confined { process, exit_status } => {
                if exit_status.is_none() {
                    *exit_status = process.kill();
                }
            }
        }
    }
}

impl VmmProcess {
    /// The exit status, once the process has exited.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Kills the process, if it is running, and waits for it.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Its confinement.
    pub(crate) fn confined(&self) -> Option<&ConfinedProcess> {
        match &self.process {
            Process::Unconfined(_) => None,
            Process::Confined { process, .. } => Some(process),
        }
    }

    /// Its confinement, to change it.
    pub(crate) fn confined_mut(&mut self) -> Option<&mut ConfinedProcess> {
        match &mut self.process {
            Process::Unconfined(_) => None,
            Process::Confined { process, .. } => Some(process),
        }
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
