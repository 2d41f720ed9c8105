//! The keeper: one small process per machine, the parent of its VMM. It leads a separate session (setsid(2)), so that machines
//! outlive the controller.
//!
//! ```text
//!  controller ──(socket pair as stdin, or control.sock)── keeper ──▶ process (dies with the keeper)
//!                                                           │ QMP, console, output, pidfd
//! ```
//!
//! One thread, one `poll`. The keeper listens before it starts the process, enforces the maximum lifetime even without a
//! connected controller, and keeps the last console output. When the process has exited it reports the cause at once. Then it
//! kills every descendant, removes the run directory, writes the receipt and closes its sockets. The close means that the
//! machine is removed. The cause is decided before it is reported and does not change afterwards.

mod cleanup;
pub(crate) mod client;
pub(crate) mod control;
mod exit_cause;
mod firecracker_session;
mod firecracker_watchdog;
mod monitor;
mod oom_kill_counter;
mod qmp_session;
mod tail_buffer;
mod vmm_process;

use crate::{
    confinement::{self, ConfinedProcess, SpawnError},
    exit_reason::StopReason,
    kvm::tiny_guest_process,
    procfs::{self, ProcessId},
    qmp::QmpError,
    receipt::{ExitCause, StopDetail},
    renew_deadline::KeeperDeadline,
    spec::{KEEPER_CONFIG_FILE, KEEPER_SOCKET, KeeperConfig},
};
use anteroom_wire::{chain, time::to_unix_ms};
use control::{CONTROL_PROTOCOL, ControlConnection, KeeperCommand, KeeperPhase, Report};
use monitor::{GuestEvent, MonitorError, MonitorSession, VmEvent};
use oom_kill_counter::OomKillCounter;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FileType,
    process::{DumpableBehavior, Resource, Rlimit},
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};
use tail_buffer::TailBuffer;
use vmm_process::VmmProcess;

/// Maximum connections on the control socket; one more closes the oldest.
const CLIENTS_MAX: usize = 8;

/// Runs the keeper of the machine whose run directory is `run_dir`; returns when the machine is removed.
///
/// With the argument `--probe-layers` instead of a run directory, it prints the layers of confinement that this host has;
/// with `--run-tiny-guest`, the result of a tiny guest on KVM.
/// Call it first in a new process, before any thread starts: it closes all inherited files except the first three and starts
/// a new session. If standard input is a socket, it is the first control connection.
pub fn main(run_dir: &Path) -> ExitCode {
    if run_dir == Path::new(confinement::PROBE_ARGUMENT) {
        return confinement::print_layers();
    }
    if run_dir == Path::new(tiny_guest_process::TINY_GUEST_ARGUMENT) {
        return tiny_guest_process::print_result();
    }
    let mut client = None;
    match Keeper::init(run_dir, &mut client) {
        Ok(mut keeper) => {
            let cause = keeper.start().unwrap_or_else(|| keeper.run_until_exit());
            keeper.finish(cause);
            ExitCode::SUCCESS
        }
        Err(error) => {
            // The controller discards a keeper's standard error, so the report goes to the control connection.
            let error = format!("the keeper could not start: {error}");
            let phase =
                KeeperPhase::Ended { cause: ExitCause::NeverStarted { error }, stop_detail: None, receipt_error: None };
            if let Some(mut client) = client {
                let _ = client.send(&Report::Phase { phase });
            }
            ExitCode::FAILURE
        }
    }
}

struct Keeper {
    config: KeeperConfig,
    /// `None`: the host is in no cluster.
    renew_deadline: Option<KeeperDeadline>,
    run_dir: PathBuf,
    began: Instant,
    began_unix_ms: u64,
    oom_kills: OomKillCounter,
    listener: UnixListener,
    clients: Vec<ControlConnection>,
    phase: KeeperPhase,
    vmm: Option<VmmProcess>,
    monitor: Option<MonitorSession>,
    /// Whether the guest has resumed after its state was loaded.
    resumed: bool,
    guest_event: Option<GuestEvent>,
    /// The detail of the stop command, unparsed.
    stop_detail: Option<StopDetail>,
    console: TailBuffer,
    output: TailBuffer,
}

/// Closes file descriptors that the parent left open.
fn close_inherited() -> io::Result<()> {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in numbers {
        // The list includes the descriptor of the directory read above, which is closed by now.
        if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok() {
            #[allow(unsafe_code, reason = "the number is open, and nothing of this process owns a file above 2 yet")]
            unsafe {
                rustix::io::close(number);
            }
        }
    }
    Ok(())
}

/// The control connection on standard input, if that is a socket; standard input is then replaced by `/dev/null`.
fn client_on_stdin() -> io::Result<Option<ControlConnection>> {
    let stdin = rustix::stdio::stdin();
    if FileType::from_raw_mode(rustix::fs::fstat(stdin)?.st_mode) != FileType::Socket {
        return Ok(None);
    }
    let stream = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    ControlConnection::new(stream).map(Some)
}

/// A core file of the keeper or of its process would contain the machine's memory.
fn forbid_core_files() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A core that goes to a program is not limited, but contains no memory (core(5)). A kernel without this file makes none.
    let _ = fs::write("/proc/self/coredump_filter", "0");
    Ok(())
}

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{program}")]
    NotSpawned { program: String, source: SpawnError },
    #[error(transparent)]
    Monitor(#[from] MonitorError),
}

impl Keeper {
    /// Everything that can fail before the process is started. `client`: the connection to report the failure to.
    fn init(run_dir: &Path, client: &mut Option<ControlConnection>) -> io::Result<Self> {
        let began = Instant::now();
        close_inherited()?;
        *client = client_on_stdin()?;
        let run_dir = fs::canonicalize(run_dir)?;
        std::env::set_current_dir(&run_dir)?;
        // Fails only for a process that is already a group leader, such as one started in a shell.
        let _ = rustix::process::setsid();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let listener = UnixListener::bind(KEEPER_SOCKET)?;
        listener.set_nonblocking(true)?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        forbid_core_files()?;
        let config: KeeperConfig = serde_json::from_slice(&fs::read(KEEPER_CONFIG_FILE)?)?;
        let renew_deadline = config.renew_deadline_file.as_deref().map(KeeperDeadline::open).transpose()?;
        let mut keeper = Self {
            renew_deadline,
            run_dir,
            began,
            began_unix_ms: to_unix_ms(SystemTime::now()),
            oom_kills: OomKillCounter::new(began, procfs::oom_kill_count()),
            listener,
            clients: Vec::new(),
            phase: KeeperPhase::Starting,
            vmm: None,
            monitor: None,
            resumed: false,
            guest_event: None,
            stop_detail: None,
            console: TailBuffer::new(config.console_bytes_max),
            output: TailBuffer::new(config.console_bytes_max),
            config,
        };
        if let Some(client) = client.take() {
            keeper.accept_client(client);
        }
        Ok(keeper)
    }

    /// Starts the process; returns the cause if it did not start.
    fn start(&mut self) -> Option<ExitCause> {
        let started = vmm_process::spawn(&self.config.spec, std::process::id())
            .map_err(|source| StartError::NotSpawned { program: self.config.spec.program.clone(), source })
            .and_then(|(vmm, stream)| {
                self.phase = KeeperPhase::Running { process: vmm.id };
                self.vmm = Some(vmm);
                self.monitor = MonitorSession::new(&self.config.spec.monitor, stream)?;
                Ok(())
            });
        match started {
            Ok(()) => {
                // Not before: the child would be undumpable too, and an ordinary user could not write its id map.
                let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
                self.broadcast_phase();
                None
            }
            Err(error) => Some(ExitCause::NeverStarted { error: chain(&error) }),
        }
    }

    /// The VMM has started and its guest does not run yet: completes the confinement, then lets the guest run.
    fn run_guest(&mut self) -> Option<ExitCause> {
        let never_started = |error: String| Some(ExitCause::NeverStarted { error });
        if let Some(Err(error)) = self.vmm.as_mut().and_then(VmmProcess::confined_mut).map(ConfinedProcess::seal) {
            return never_started(format!("the VMM could not be confined: {error}"));
        }
        match self.monitor.as_mut()?.run_guest() {
            // If the process has exited since, its exit status is more precise.
            Ok(()) | Err(MonitorError::Qmp(QmpError::Socket(_))) => None,
            Err(error) => never_started(chain(&error)),
        }
    }

    fn accept_client(&mut self, mut client: ControlConnection) {
        let Some(keeper) = ProcessId::from_pid(std::process::id()) else { return };
        let phase = self.phase.clone();
        let greeting =
            Report::Greeting { protocol: CONTROL_PROTOCOL, machine: self.config.machine.clone(), keeper, phase };
        if client.send(&greeting).is_ok() {
            if self.clients.len() >= CLIENTS_MAX {
                self.clients.remove(0);
            }
            self.clients.push(client);
        }
    }

    fn broadcast_phase(&mut self) {
        let report = Report::Phase { phase: self.phase.clone() };
        self.clients.retain_mut(|client| client.send(&report).is_ok());
    }

    /// Runs until the process exits, a deadline expires or a stop is requested; returns the cause.
    fn run_until_exit(&mut self) -> ExitCause {
        let deadline = self.began + Duration::from_millis(self.config.deadline_ms);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return ExitCause::Deadline;
            }
            let renew_left = self.renew_deadline.as_ref().map_or(Duration::MAX, KeeperDeadline::left);
            if renew_left.is_zero() {
                return ExitCause::RenewDeadline;
            }
            let check_after = self.monitor.as_ref().map_or(Duration::MAX, MonitorSession::check_after);
            self.wait(left.min(oom_kill_counter::SAMPLE_INTERVAL).min(check_after).min(renew_left));
            if let Some(vmm) = &mut self.vmm {
                vmm.read_output(&mut self.console, &mut self.output);
            }
            if let Some(violation) =
                self.vmm.as_mut().and_then(VmmProcess::confined_mut).and_then(ConfinedProcess::answer_calls)
            {
                return ExitCause::ForbiddenSystemCall { system_call: violation.system_call };
            }
            if let Some(cause) = self.handle_monitor_events() {
                return cause;
            }
            if let Some(status) = self.vmm.as_mut().and_then(VmmProcess::exit_status) {
                return self.exit_cause(status);
            }
            if let Some(cause) = self.handle_commands() {
                return cause;
            }
            self.oom_kills.sample(Instant::now(), procfs::oom_kill_count);
        }
    }

    /// Waits until a file is readable, or until `timeout`.
    fn wait(&self, timeout: Duration) {
        let mut files: Vec<BorrowedFd<'_>> = vec![self.listener.as_fd()];
        files.extend(self.clients.iter().map(AsFd::as_fd));
        files.extend(self.monitor.iter().map(AsFd::as_fd));
        if let Some(vmm) = &self.vmm {
            files.push(vmm.pidfd.as_fd());
            files.extend(vmm.confined().and_then(ConfinedProcess::pending_calls));
            files.extend(vmm.stdout.iter().map(AsFd::as_fd));
            files.extend(vmm.stderr.iter().map(AsFd::as_fd));
            files.extend(vmm.console.iter().map(AsFd::as_fd));
        }
        let mut files: Vec<PollFd<'_>> =
            files.into_iter().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
        // An interruption does not matter: the caller checks every source.
        let _ = rustix::event::poll(&mut files, Timespec::try_from(timeout).ok().as_ref());
    }

    fn handle_commands(&mut self) -> Option<ExitCause> {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Ok(client) = ControlConnection::new(stream) {
                self.accept_client(client);
            }
        }
        let mut commands = Vec::new();
        self.clients.retain_mut(|client| client.read_commands().map(|read| commands.extend(read)).is_ok());
        if self.config.tied_to_parent && self.clients.is_empty() {
            let reason = StopReason::Orphaned;
            self.stop_detail = StopDetail::from_reason(&reason);
            return Some(ExitCause::Stopped { reason: reason.name().to_owned() });
        }
        commands.into_iter().find_map(|command| match command {
            KeeperCommand::Stop { reason, stop_detail } => {
                self.stop_detail = stop_detail;
                Some(ExitCause::Stopped { reason })
            }
            KeeperCommand::Save { state } => match &mut self.monitor {
                None => Some(ExitCause::SaveFailed {
                    error: "the machine's process cannot be saved: it is not a VMM".into(),
                }),
                Some(monitor) => {
                    monitor.save(&state).err().map(|error| ExitCause::SaveFailed { error: error.to_string() })
                }
            },
        })
    }

    fn handle_monitor_events(&mut self) -> Option<ExitCause> {
        let monitor = self.monitor.as_mut()?;
        let events = match monitor.read_events().and_then(|mut events| {
            events.extend(monitor.check(Instant::now())?);
            Ok(events)
        }) {
            Ok(events) => events,
            Err(error) => return Some(self.command_failed(chain(&error))),
        };
        if self.monitor.as_ref().is_some_and(MonitorSession::is_closed) {
            self.monitor = None;
        }
        for event in events {
            match event {
                VmEvent::Started => {
                    if let Some(cause) = self.run_guest() {
                        return Some(cause);
                    }
                }
                VmEvent::Resumed => self.resumed = true,
                VmEvent::Guest(event) => self.guest_event = Some(event),
                VmEvent::Saved => return Some(ExitCause::Saved),
                VmEvent::Failed(error) => return Some(self.command_failed(error)),
                VmEvent::UnrecoverableError(status) => return Some(ExitCause::VmmError { status }),
            }
        }
        None
    }

    /// Kills the process, reports the cause, cleans up and writes the receipt. The control connections close when the keeper is
    /// dropped.
    fn finish(&mut self, cause: ExitCause) {
        let seen = self.kill_process();
        // Reported before cleanup, whose duration depends on the disks.
        self.phase = KeeperPhase::CleaningUp { cause: cause.clone(), stop_detail: self.stop_detail.clone() };
        self.broadcast_phase();
        let receipt = self.clean_up(cause.clone(), seen);
        let written = receipt.write(&self.config.receipts_dir);
        let (stop_detail, receipt_error) = (self.stop_detail.take(), written.err().map(|error| error.to_string()));
        self.phase = KeeperPhase::Ended { cause, stop_detail, receipt_error };
        self.broadcast_phase();
    }

    /// Kills the process and waits for it. If it was still running, returns the descendants that it had.
    fn kill_process(&mut self) -> Vec<ProcessId> {
        let Some(vmm) = &mut self.vmm else { return Vec::new() };
        if vmm.exit_status().is_some() {
            return Vec::new();
        }
        let seen = procfs::own_descendants();
        vmm.kill();
        seen
    }
}
