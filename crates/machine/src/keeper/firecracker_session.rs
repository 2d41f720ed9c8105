//! The keeper's connection to the API of a Firecracker process: prepares the virtual machine, starts it, saves it, and notices a
//! process that no longer answers.
//!
//! ```text
//!  boot:  GET /version ─▶ configuration, InstanceStart ─▶ Started, Resumed
//!  clone: GET /version ─▶ snapshot/load, paused ─▶ Started ─▶ (confined completely) ─▶ Resumed
//!  save:  Paused ─▶ snapshot/create ─▶ Saved
//! ```
//!
//! Nothing here waits: while Firecracker executes a request, the keeper must answer its system calls.

use super::{firecracker_watchdog::Watchdog, monitor::VmEvent};
use crate::{
    firecracker::{MEMORY_NAME, STATE_NAME, VSOCK_NAME},
    spec::FirecrackerStart,
};
use anteroom_firecracker::{
    Connection, Error, Operation, Request,
    body::{
        BootSource, Drive, MachineConfiguration, MemoryBackend, MemoryBackendType, SnapshotCreateParams,
        SnapshotLoadParams, SnapshotType, Vsock,
    },
};
use anteroom_wire::chain;
use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

/// The guest's vsock address. Each machine has its own Firecracker, so that all may have the same.
const GUEST_CID: u32 = 3;
const ROOT_DRIVE: &str = "rootfs";

/// What the session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The version.
    Connecting,
    /// The configuration, or the load of a snapshot.
    Preparing,
    /// [`FirecrackerSession::run_guest`].
    Prepared,
    /// The guest's start.
    Starting,
    /// Nothing: the guest runs.
    Running,
    /// A snapshot.
    Saving,
}

/// The session of one machine.
pub(crate) struct FirecrackerSession {
    connection: Connection,
    start: FirecrackerStart,
    progress: Progress,
    unanswered: usize,
    watchdog: Watchdog,
}

impl AsFd for FirecrackerSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl FirecrackerSession {
    /// Begins with a request for the version. `answer_ms_max`: how long an answer may take, except to a snapshot.
    pub(crate) fn new(stream: UnixStream, start: FirecrackerStart, answer_ms_max: u64) -> Result<Self, Error> {
        Ok(Self {
            connection: Connection::new(stream)?,
            start,
            progress: Progress::Connecting,
            unanswered: 1,
            watchdog: Watchdog::new(Duration::from_millis(answer_ms_max), Instant::now()),
        })
    }

    /// Lets a loaded guest run. One that was booted runs already.
    pub(crate) fn run_guest(&mut self) -> Result<(), Error> {
        match self.progress {
            Progress::Prepared => {
                self.progress = Progress::Starting;
                self.send(&Request::resume_vm()?)
            }
            Progress::Connecting | Progress::Preparing | Progress::Starting | Progress::Running | Progress::Saving => {
                Ok(())
            }
        }
    }

    /// Pauses the guest and saves it into the files of the process's spec.
    pub(crate) fn save(&mut self) -> Result<(), Error> {
        self.progress = Progress::Saving;
        self.send(&Request::pause_vm()?)?;
        self.send(&Request::create_snapshot(&SnapshotCreateParams {
            snapshot_path: STATE_NAME.to_owned(),
            mem_file_path: MEMORY_NAME.to_owned(),
            snapshot_type: SnapshotType::Full,
        })?)
    }

    /// Whether Firecracker has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// How long the keeper may wait until it calls [`FirecrackerSession::check`].
    pub(crate) fn check_after(&self) -> Duration {
        self.watchdog.check_after()
    }

    /// Requests a sign of life from a process that has sent none for some time. The event is [`VmEvent::UnrecoverableError`] when an
    /// answer is overdue.
    pub(crate) fn check(&mut self, now: Instant) -> Result<Option<VmEvent>, Error> {
        if self.watchdog.is_overdue(self.unanswered > 0, now) && self.progress != Progress::Saving {
            return Ok(Some(VmEvent::UnrecoverableError("unresponsive".to_owned())));
        }
        if self.unanswered == 0 && self.progress == Progress::Running && self.watchdog.is_ping_due(now) {
            self.send(&Request::describe_instance())?;
        }
        Ok(None)
    }

    /// The events that have arrived. Call when the socket is readable.
    pub(crate) fn read_events(&mut self) -> Result<Vec<VmEvent>, Error> {
        let mut events = Vec::new();
        loop {
            match self.connection.read_response() {
                Ok(None) => return Ok(events),
                Ok(Some(response)) => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                    self.watchdog.answered(Instant::now());
                    events.extend(self.handle_response(response.operation())?);
                }
                Err(error @ Error::Fault { .. }) => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                    events.push(VmEvent::Failed(chain(&error)));
                }
                // The exit status and the log are more precise.
                Err(Error::Closed { .. }) => return Ok(events),
                Err(error) => return Err(error),
            }
        }
    }

    fn handle_response(&mut self, operation: Operation) -> Result<Vec<VmEvent>, Error> {
        match self.progress {
            Progress::Connecting => {
                self.progress = Progress::Preparing;
                self.prepare()?;
            }
            // Answers arrive in the order of the requests: the last one is that of the whole preparation.
            Progress::Preparing if self.unanswered == 0 => match self.start {
                FirecrackerStart::Boot { .. } => {
                    self.progress = Progress::Running;
                    return Ok(vec![VmEvent::Started, VmEvent::Resumed]);
                }
                FirecrackerStart::Load => {
                    self.progress = Progress::Prepared;
                    return Ok(vec![VmEvent::Started]);
                }
            },
            Progress::Starting => {
                self.progress = Progress::Running;
                return Ok(vec![VmEvent::Resumed]);
            }
            Progress::Saving if operation == Operation::CreateSnapshot => return Ok(vec![VmEvent::Saved]),
            Progress::Preparing | Progress::Prepared | Progress::Running | Progress::Saving => {}
        }
        Ok(Vec::new())
    }

    /// Sends all requests of the preparation. Firecracker executes them one after another.
    fn prepare(&mut self) -> Result<(), Error> {
        let start = self.start.clone();
        let FirecrackerStart::Boot { cpus, memory_mib, kernel, initramfs, boot_args, rootfs } = start else {
            return self.send(&Request::load_snapshot(&SnapshotLoadParams {
                snapshot_path: STATE_NAME.to_owned(),
                mem_backend: MemoryBackend {
                    backend_type: MemoryBackendType::File,
                    backend_path: MEMORY_NAME.to_owned(),
                },
                resume_vm: false,
                vsock_override: None,
            })?);
        };
        let machine_config = MachineConfiguration { vcpu_count: cpus, mem_size_mib: memory_mib };
        self.send(&Request::put_machine_configuration(&machine_config)?)?;
        let boot_source = BootSource { kernel_image_path: kernel, boot_args, initrd_path: initramfs };
        self.send(&Request::put_guest_boot_source(&boot_source)?)?;
        if let Some(path_on_host) = rootfs {
            let drive_id = ROOT_DRIVE.to_owned();
            // The agent mounts it: it is not the root file system of the kernel.
            let drive = Drive { drive_id, path_on_host, is_root_device: false, is_read_only: true };
            self.send(&Request::put_guest_drive_by_id(&drive)?)?;
        }
        let vsock = Vsock { guest_cid: GUEST_CID, uds_path: VSOCK_NAME.to_owned() };
        self.send(&Request::put_guest_vsock(&vsock)?)?;
        self.send(&Request::put_entropy_device()?)?;
        self.send(&Request::start_instance()?)
    }

    fn send(&mut self, request: &Request) -> Result<(), Error> {
        match self.connection.send(request) {
            Ok(()) => self.unanswered += 1,
            // The exit status and the log are more precise.
            Err(Error::Closed { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
