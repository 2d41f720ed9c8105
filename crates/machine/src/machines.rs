//! The machines of this host: clone, stop, watch, list.
//!
//! ```text
//!  start ─▶ one task per machine ─▶ watch channel ─▶ subscribers
//!  stop  ─▶ (enqueued) ─▶ machine task ─▶ keeper
//!  open  ─▶ scans the run directory, adopts every keeper that answers, removes the directories of the others
//! ```
//!
//! The machine task is the only writer of the state. When the stop token fires, the tasks end and the machines continue.

mod adopt;
mod channel_faults;
mod connection;
mod dial;
mod liveness;
mod machine_task;

pub use channel_faults::{
    SHORT_CONNECTION_EVERY_MS, SHORT_CONNECTION_MS, SHORT_CONNECTIONS_BURST, VIOLATION_EVERY_MS, VIOLATIONS_BURST,
};

use crate::{
    channel::{CallLimits, ControllerService},
    confinement::enter_server_cgroup,
    exit_reason::StopReason,
    procfs::{MemoryUsage, ProcessId},
    receipt::{self, Receipt},
    spec::{ChannelTransport, KeeperConfig, SpecError, SpecSource},
    state::{State, StopRequestOutcome},
};
use anteroom_wire::MachineId;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Commands queued for one machine task; the first one takes effect.
const COMMANDS_MAX: usize = 4;
/// The end of a machine's console output that is kept, bytes: the last boot messages and the last output of a kernel or agent that crashed.
pub const CONSOLE_BYTES_MAX: usize = 64 * 1024;
/// Interval between two pings to a machine that sends nothing else, milliseconds. A ping is a few bytes.
pub const PING_EVERY_MS: u64 = 2_000;
/// A ready machine that sends nothing for this long is not ready until it sends again, milliseconds. Three pings: an emulated guest
/// may answer one of them late.
pub const PING_MS_MAX: u64 = 6_000;

/// Settings of the machines of one server.
#[derive(Debug, Clone)]
pub struct MachinesSettings {
    /// Parent of the machines' run directories, `run_dir/<machine id>/`; used by one server at a time.
    pub run_dir: PathBuf,
    /// Directory of the receipts.
    pub receipts_dir: PathBuf,
    /// Number of receipts to keep.
    pub receipts_max: usize,
    /// The program that is started as `PROGRAM keeper RUN_DIR` and calls [`crate::keeper::main`].
    pub keeper_program: PathBuf,
    /// How long a machine may take to become ready after its start or after its channel broke, milliseconds.
    pub ready_ms_max: u64,
    /// A machine's maximum lifetime, seconds; enforced by its keeper.
    pub lifetime_s_max: u64,
    /// The file with the time at which keepers end their machines ([`RenewDeadlineFile`](crate::RenewDeadlineFile)); `None`: the host is in
    /// no cluster.
    pub renew_deadline_file: Option<PathBuf>,
    /// Maximum number of machines at the same time.
    pub machines_max: u32,
    /// How many of the last bytes of a console are kept.
    pub console_bytes_max: usize,
    /// Interval between two requests for the agent's stages while they are not all up, milliseconds.
    pub probe_every_ms: u64,
    /// How long to wait for the first echo on a new machine's channel before another nonce is sent, milliseconds; see
    /// [`anteroom_wire::channel`]. A clone on a busy host needs some hundred milliseconds, and its pipe has no stale bytes.
    pub first_echo_wait_ms: u64,
    /// Interval between two pings to a machine that sends nothing else, milliseconds.
    pub ping_every_ms: u64,
    /// A ready machine that sends nothing for this long is not ready until it sends again, milliseconds.
    pub ping_ms_max: u64,
    /// A machine that was ready and sends nothing for this long has hung and is stopped, milliseconds.
    pub liveness_timeout_ms: u64,
    /// How long a keeper may take to stop its machine or to clean up after it before the keeper is killed, milliseconds.
    pub keeper_exit_timeout_ms: u64,
    /// Limits of calls to agents.
    pub call_limits: CallLimits,
}

impl MachinesSettings {
    /// The defaults, with all directories below `state_dir`.
    pub fn in_state_dir(state_dir: &Path, keeper_program: PathBuf) -> Self {
        Self {
            run_dir: state_dir.join("run"),
            receipts_dir: state_dir.join("receipts"),
            receipts_max: 1_000,
            keeper_program,
            ready_ms_max: 60_000,
            lifetime_s_max: 4 * 3_600,
            renew_deadline_file: None,
            machines_max: 16,
            console_bytes_max: CONSOLE_BYTES_MAX,
            probe_every_ms: 20,
            first_echo_wait_ms: 1_000,
            ping_every_ms: PING_EVERY_MS,
            ping_ms_max: PING_MS_MAX,
            liveness_timeout_ms: 20_000,
            keeper_exit_timeout_ms: 15_000,
            call_limits: CallLimits::default(),
        }
    }
}

/// Why the machines of this host cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MachinesOpenError {
    /// A directory cannot be created or read.
    #[error("the directory {path:?} cannot be created or read")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Another server uses the run directory.
    #[error("another server uses {path:?}: stop it or choose another state directory")]
    InUse {
        /// The run directory.
        path: PathBuf,
    },
}

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum MachineStartError {
    /// The maximum number of machines is running.
    #[error("{machines} of at most {machines_max} machines are running")]
    NoCapacity {
        /// Machines on this host.
        machines: usize,
        /// The configured maximum.
        machines_max: u32,
    },
    /// A machine with that id exists.
    #[error("a machine with this id exists already")]
    AlreadyExists,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The machine's spec could not be made.
    #[error("the machine's spec cannot be made")]
    Spec(#[source] SpecError),
}

/// The machines of this host. Cheap to clone: all clones share the same state.
#[derive(Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

struct Inner {
    settings: MachinesSettings,
    tied_to_parent: bool,
    spec_source: Arc<dyn SpecSource>,
    controller_service: ControllerService,
    tasks: TaskTracker,
    stop: CancellationToken,
    machines: Mutex<BTreeMap<MachineId, Entry>>,
    /// Locked until this value is dropped: one server per run directory.
    _lock: File,
}

/// A machine's process.
#[derive(Debug, Clone, Copy)]
struct ProcessInfo {
    process: ProcessId,
    /// When the keeper reported it, milliseconds after the machine was requested.
    reported_after_ms: u64,
}

/// A command to a machine task.
enum DriverCommand {
    Stop(StopReason),
    /// Disconnect, save the state except the RAM into a new file, stop.
    Save(PathBuf),
}

/// A machine that is not removed.
struct Entry {
    state: watch::Receiver<State>,
    commands: mpsc::Sender<DriverCommand>,
    process_info: Arc<OnceLock<ProcessInfo>>,
    keeper: Arc<OnceLock<ProcessId>>,
}

/// How a machine's agent is reached, and which image it must run.
#[derive(Debug, Clone)]
struct AgentTarget {
    image_hash: String,
    transport: ChannelTransport,
}

/// The machine task's side of an [`Entry`].
struct Slot {
    id: MachineId,
    target: AgentTarget,
    state: watch::Sender<State>,
    commands: mpsc::Receiver<DriverCommand>,
    process_info: Arc<OnceLock<ProcessInfo>>,
    keeper: Arc<OnceLock<ProcessId>>,
}

impl Machines {
    /// Opens the run directory, adopts the running machines and removes the directories of the others.
    ///
    /// `controller_service` answers the machines' requests. All tasks are spawned on `tasks`. When `stop` fires, the tasks end and the
    /// machines continue for the next server.
    ///
    /// # Errors
    /// See [`MachinesOpenError`].
    pub async fn open(
        settings: MachinesSettings,
        spec_source: Arc<dyn SpecSource>,
        controller_service: ControllerService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, MachinesOpenError> {
        let machines = Self::new(settings, spec_source, controller_service, tasks, stop, false)?;
        machines.adopt_all().await?;
        Ok(machines)
    }

    /// Like [`Machines::open`], but the machines are stopped when this process ends, and none is adopted.
    pub(crate) fn open_tied_to_parent(
        settings: MachinesSettings,
        spec_source: Arc<dyn SpecSource>,
        controller_service: ControllerService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, MachinesOpenError> {
        Self::new(settings, spec_source, controller_service, tasks, stop, true)
    }

    fn new(
        settings: MachinesSettings,
        spec_source: Arc<dyn SpecSource>,
        controller_service: ControllerService,
        tasks: TaskTracker,
        stop: CancellationToken,
        tied_to_parent: bool,
    ) -> Result<Self, MachinesOpenError> {
        let lock = lock_directories(&settings)?;
        if let Err(error) = enter_server_cgroup() {
            tracing::warn!(%error, "the server cannot enter a cgroup of its own, so machines have none");
        }
        let machines = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                tied_to_parent,
                spec_source,
                controller_service,
                tasks,
                stop,
                machines,
                _lock: lock,
            }),
        })
    }

    /// The hash of the image that new machines will run.
    pub fn image_hash(&self) -> String {
        self.inner.spec_source.image_hash().to_owned()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<MachineId, Entry>> {
        self.inner.machines.lock()
    }

    /// Requests the machine `id` and returns at once; the receiver gets every state up to `Removed`.
    ///
    /// # Errors
    /// See [`MachineStartError`].
    pub fn start(&self, id: MachineId) -> Result<watch::Receiver<State>, MachineStartError> {
        if self.inner.stop.is_cancelled() {
            return Err(MachineStartError::Stopping);
        }
        let spec_source = &self.inner.spec_source;
        let config = KeeperConfig {
            machine: id.clone(),
            image_hash: spec_source.image_hash().to_owned(),
            spec: spec_source.build_spec(&id).map_err(MachineStartError::Spec)?,
            deadline_ms: self.inner.settings.lifetime_s_max.saturating_mul(1_000),
            renew_deadline_file: self.inner.settings.renew_deadline_file.clone(),
            receipts_dir: self.inner.settings.receipts_dir.clone(),
            tied_to_parent: self.inner.tied_to_parent,
            console_bytes_max: self.inner.settings.console_bytes_max,
        };
        let target = AgentTarget { image_hash: config.image_hash.clone(), transport: config.spec.transport };
        let reserve_slot = self.reserve_slot(id, target, State::Requested)?;
        let watched = reserve_slot.state.subscribe();
        self.inner.tasks.spawn(machine_task::run_new(self.clone(), reserve_slot, config));
        Ok(watched)
    }

    /// Registers a machine, unless its id exists or the limit is reached. The limit does not apply to adopted machines, which
    /// run already.
    fn reserve_slot(&self, id: MachineId, target: AgentTarget, state: State) -> Result<Slot, MachineStartError> {
        let mut entries = self.entries();
        if entries.contains_key(&id) {
            return Err(MachineStartError::AlreadyExists);
        }
        let machines_max = self.inner.settings.machines_max;
        let is_new = matches!(state, State::Requested);
        if is_new && entries.len() >= usize::try_from(machines_max).unwrap_or(usize::MAX) {
            return Err(MachineStartError::NoCapacity { machines: entries.len(), machines_max });
        }
        let (state, watched) = watch::channel(state);
        let (command, commands) = mpsc::channel(COMMANDS_MAX);
        let (process_info, keeper) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let (info, keeper_of_entry) = (Arc::clone(&process_info), Arc::clone(&keeper));
        let entry = Entry { state: watched, commands: command, process_info: info, keeper: keeper_of_entry };
        entries.insert(id.clone(), entry);
        Ok(Slot { id, target, state, commands, process_info, keeper })
    }

    /// Requests the machine's stop; its state receiver reports when it is removed. Idempotent.
    pub fn stop(&self, id: &MachineId, reason: StopReason) -> StopRequestOutcome {
        let entries = self.entries();
        let Some(entry) = entries.get(id) else { return StopRequestOutcome::UnknownMachine };
        let is_ending =
            matches!(*entry.state.borrow(), State::Stopping { .. } | State::Exited { .. } | State::Removed { .. });
        if is_ending || entry.commands.try_send(DriverCommand::Stop(reason)).is_err() {
            StopRequestOutcome::Ignored
        } else {
            StopRequestOutcome::Enqueued
        }
    }

    /// Requests that a ready machine's state, without its RAM, is saved into the new file `state_file` and the machine is stopped.
    /// The receipt reports whether that succeeded.
    pub(crate) fn save_device_state_and_stop(&self, id: &MachineId, state_file: PathBuf) -> StopRequestOutcome {
        match self.entries().get(id) {
            None => StopRequestOutcome::UnknownMachine,
            Some(entry) if entry.commands.try_send(DriverCommand::Save(state_file)).is_ok() => {
                StopRequestOutcome::Enqueued
            }
            Some(_) => StopRequestOutcome::Ignored,
        }
    }

    /// Subscribes to the state of a machine that is not removed. (Earlier subscribers also receive `Removed`.)
    pub fn watch(&self, id: &MachineId) -> Option<watch::Receiver<State>> {
        self.entries().get(id).map(|entry| entry.state.clone())
    }

    /// The machines that are not removed, oldest first.
    pub fn list(&self) -> Vec<(MachineId, State)> {
        self.entries().iter().map(|(id, entry)| (id.clone(), entry.state.borrow().clone())).collect()
    }

    /// The number of machines that are not removed.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// The keepers of the machines that are not removed, as far as they have reported.
    pub fn keepers(&self) -> Vec<ProcessId> {
        self.entries().values().filter_map(|entry| entry.keeper.get().copied()).collect()
    }

    /// The memory of a machine's process; `None`: no such machine, or no process yet. Reads `/proc`, some milliseconds.
    pub fn memory_usage(&self, id: &MachineId) -> Option<MemoryUsage> {
        let process = self.entries().get(id)?.process_info.get()?.process;
        process.is_alive().then(|| MemoryUsage::read(process.pid).ok()).flatten()
    }

    /// The receipt that a machine's keeper wrote. Reads a file.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn read_receipt(&self, id: &MachineId) -> io::Result<Option<Receipt>> {
        Receipt::read(&self.inner.settings.receipts_dir, id)
    }

    /// The settings of these machines.
    pub fn settings(&self) -> &MachinesSettings {
        &self.inner.settings
    }

    fn run_dir_of(&self, id: &MachineId) -> PathBuf {
        self.inner.settings.run_dir.join(id.as_str())
    }

    /// Frees the slot of a removed machine.
    fn free_slot(&self, id: &MachineId) {
        self.entries().remove(id);
        let settings = &self.inner.settings;
        if let Err(error) = receipt::prune_receipts(&settings.receipts_dir, settings.receipts_max) {
            tracing::warn!(%error, "removal of old receipts failed");
        }
    }
}

/// Creates the directories and locks the run directory.
fn lock_directories(settings: &MachinesSettings) -> Result<File, MachinesOpenError> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [&settings.run_dir, &settings.receipts_dir] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| MachinesOpenError::Directory { path: path.clone(), source })?;
    }
    let path = settings.run_dir.clone();
    let lock = File::open(&path).map_err(|source| MachinesOpenError::Directory { path: path.clone(), source })?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => MachinesOpenError::InUse { path: path.clone() },
        error => MachinesOpenError::Directory { path: path.clone(), source: error.into() },
    })?;
    Ok(lock)
}
