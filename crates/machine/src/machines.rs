//! The machines of this host: clone, stop, watch, list.
//!
//! ```text
//!  start ─▶ one driver task per machine ─▶ watch channel ─▶ whoever watches
//!  stop  ─▶ (enqueued) ─▶ driver ─▶ keeper
//!  open  ─▶ looks into the run directory, adopts every keeper that answers, removes what is dead
//! ```
//!
//! The driver is the only writer of a machine's state. When the stop token fires, drivers end and the machines live on.

mod adopt;
mod connection;
mod driver;
mod liveness;

use crate::{
    channel::{CallLimits, HostService},
    exit_reason::StopReason,
    process::{Memory, ProcessId},
    receipt::{self, Receipt},
    spec::{KeeperConfig, SpecError, SpecSource},
    state::{RequestOutcome, State},
};
use anteroom_wire::MachineId;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Orders that may wait for one driver; the first one decides.
const COMMANDS_MAX: usize = 4;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where each machine has its run directory, `run_dir/<machine id>/`; one server at a time.
    pub run_dir: PathBuf,
    /// Where receipts go.
    pub receipts_dir: PathBuf,
    /// How many receipts are kept.
    pub receipts_max: usize,
    /// The program that is started as `PROGRAM keeper RUN_DIR` and calls [`crate::keeper::main`].
    pub keeper_program: PathBuf,
    /// How long a machine may take to become ready, at its start and after its channel broke, milliseconds.
    pub ready_ms_max: u64,
    /// A machine's longest life, seconds; held by its keeper.
    pub lifetime_s_max: u64,
    /// Machines at once.
    pub machines_max: u32,
    /// How much of a console is kept, bytes.
    pub console_bytes_max: usize,
    /// Between two looks at the agent's stages while they are not all up, milliseconds.
    pub probe_every_ms: u64,
    /// How long the first echo of a new machine's channel may take before it is asked again, milliseconds; see
    /// [`anteroom_wire::channel`]. A clone on a busy host needs some hundred, and there is nothing stale in its pipe.
    pub first_echo_ms: u64,
    /// Between two pings of a machine from which nothing else is heard, milliseconds.
    pub ping_every_ms: u64,
    /// A ready machine of which nothing was heard for this long is ready no longer, milliseconds. When it is heard again, it
    /// is ready again.
    pub ping_ms_max: u64,
    /// A machine that was ready and of which nothing was heard for this long has hung, and is ended, milliseconds.
    pub liveness_timeout_ms: u64,
    /// How long a keeper that was told to end its machine, or whose machine's process has ended, may take to clear away before
    /// it is killed itself, milliseconds.
    pub keeper_exit_timeout_ms: u64,
    /// Limits of calls to agents.
    pub calls: CallLimits,
}

impl Settings {
    /// Everything at its default, under `state_dir`.
    pub fn under(state_dir: &Path, keeper_program: PathBuf) -> Self {
        Self {
            run_dir: state_dir.join("run"),
            receipts_dir: state_dir.join("receipts"),
            receipts_max: 1_000,
            keeper_program,
            ready_ms_max: 60_000,
            lifetime_s_max: 4 * 3_600,
            machines_max: 16,
            console_bytes_max: 32 * 1024,
            probe_every_ms: 20,
            first_echo_ms: 1_000,
            ping_every_ms: 2_000,
            ping_ms_max: 6_000,
            liveness_timeout_ms: 20_000,
            keeper_exit_timeout_ms: 15_000,
            calls: CallLimits::default(),
        }
    }
}

/// Why the machines cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be made or read.
    #[error("the directory {path:?} cannot be used")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another server has it.
    #[error("another server uses {path:?}")]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// Why a machine is not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There are as many machines as there may be.
    #[error("there is no room for another machine: {machines} of {machines_max}")]
    NoCapacity {
        /// Machines there are.
        machines: usize,
        /// Machines there may be.
        machines_max: u32,
    },
    /// There is a machine of that id.
    #[error("the machine exists already")]
    Duplicate,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// What machines are made of is not there.
    #[error("there is nothing to start a machine from")]
    Spec(#[source] SpecError),
}

/// The machines of this host. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    tied_to_parent: bool,
    spec_source: Arc<dyn SpecSource>,
    host: HostService,
    tasks: TaskTracker,
    stop: CancellationToken,
    machines: Mutex<BTreeMap<MachineId, Entry>>,
    /// Held as long as this value lives: one server per run directory.
    _lock: File,
}

/// A machine's process, and when it was reported, milliseconds after the machine was asked for.
#[derive(Debug, Clone, Copy)]
struct ProcessInfo {
    process: ProcessId,
    after_ms: u64,
}

/// What a driver can be asked for.
enum DriverCommand {
    Stop(StopReason),
    /// Disconnect, save everything but the RAM into a new file, end.
    Save(PathBuf),
}

/// A machine that is not gone.
struct Entry {
    state: watch::Receiver<State>,
    commands: mpsc::Sender<DriverCommand>,
    process_info: Arc<OnceLock<ProcessInfo>>,
}

/// What a driver needs of its `Entry`.
struct Slot {
    id: MachineId,
    image_hash: String,
    state: watch::Sender<State>,
    commands: mpsc::Receiver<DriverCommand>,
    process_info: Arc<OnceLock<ProcessInfo>>,
}

impl Machines {
    /// Opens the run directory, adopts the machines that live there and removes what is dead.
    ///
    /// `host` answers the machines' requests; `tasks` owns every task; when `stop` fires the tasks end and the machines
    /// live on for the next server.
    ///
    /// # Errors
    /// When a directory cannot be used, or another server uses it.
    pub async fn open(
        settings: Settings,
        spec_source: Arc<dyn SpecSource>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let machines = Self::new(settings, spec_source, host, tasks, stop, false)?;
        machines.adopt_all().await?;
        Ok(machines)
    }

    /// A place for machines that end when this process does.
    pub(crate) fn tied_to_parent(
        settings: Settings,
        spec_source: Arc<dyn SpecSource>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        Self::new(settings, spec_source, host, tasks, stop, true)
    }

    fn new(
        settings: Settings,
        spec_source: Arc<dyn SpecSource>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
        tied_to_parent: bool,
    ) -> Result<Self, OpenError> {
        let lock = prepare(&settings)?;
        let machines = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner { settings, tied_to_parent, spec_source, host, tasks, stop, machines, _lock: lock }),
        })
    }

    /// The hash of the image that new machines will run.
    pub fn image_hash(&self) -> String {
        self.inner.spec_source.image_hash().to_owned()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<MachineId, Entry>> {
        self.inner.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the machine `id` and returns at once; the receiver tells what becomes of it, up to `Gone`.
    ///
    /// # Errors
    /// When there is no room, no recipe, or such a machine already.
    pub fn start(&self, id: MachineId) -> Result<watch::Receiver<State>, StartError> {
        if self.inner.stop.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let spec_source = &self.inner.spec_source;
        let config = KeeperConfig {
            machine: id.clone(),
            image_hash: spec_source.image_hash().to_owned(),
            spec: spec_source.spec(&id).map_err(StartError::Spec)?,
            deadline_ms: self.inner.settings.lifetime_s_max.saturating_mul(1_000),
            receipts_dir: self.inner.settings.receipts_dir.clone(),
            tied_to_parent: self.inner.tied_to_parent,
            console_bytes_max: self.inner.settings.console_bytes_max,
        };
        let reserve_slot = self.reserve_slot(id, config.image_hash.clone(), State::Requested)?;
        let watched = reserve_slot.state.subscribe();
        self.inner.tasks.spawn(driver::start(self.clone(), reserve_slot, config));
        Ok(watched)
    }

    /// Enters a machine, if there is room and none of that name. What is adopted always has room: it is there.
    fn reserve_slot(&self, id: MachineId, image_hash: String, state: State) -> Result<Slot, StartError> {
        let mut entries = self.entries();
        if entries.contains_key(&id) {
            return Err(StartError::Duplicate);
        }
        let machines_max = self.inner.settings.machines_max;
        let fresh = matches!(state, State::Requested);
        if fresh && entries.len() >= usize::try_from(machines_max).unwrap_or(usize::MAX) {
            return Err(StartError::NoCapacity { machines: entries.len(), machines_max });
        }
        let (state, watched) = watch::channel(state);
        let (command, commands) = mpsc::channel(COMMANDS_MAX);
        let process_info = Arc::new(OnceLock::new());
        entries.insert(id.clone(), Entry { state: watched, commands: command, process_info: process_info.clone() });
        Ok(Slot { id, image_hash, state, commands, process_info })
    }

    /// Asks for the machine's end; the receiver of its state tells when nothing is left. Asking again is fine.
    pub fn stop(&self, id: &MachineId, why: StopReason) -> RequestOutcome {
        let entries = self.entries();
        let Some(entry) = entries.get(id) else { return RequestOutcome::UnknownMachine };
        let over =
            matches!(*entry.state.borrow(), State::Stopping { .. } | State::Exited { .. } | State::Removed { .. });
        if over || entry.commands.try_send(DriverCommand::Stop(why)).is_err() {
            RequestOutcome::Ignored
        } else {
            RequestOutcome::Enqueued
        }
    }

    /// Has a ready machine's state saved into the new file `state`, without its RAM, and the machine ended. The receipt
    /// tells whether that succeeded.
    pub(crate) fn save(&self, id: &MachineId, state: PathBuf) -> RequestOutcome {
        match self.entries().get(id) {
            None => RequestOutcome::UnknownMachine,
            Some(entry) if entry.commands.try_send(DriverCommand::Save(state)).is_ok() => RequestOutcome::Enqueued,
            Some(_) => RequestOutcome::Ignored,
        }
    }

    /// Watches a machine that is not gone. (Whoever watched it before sees it go.)
    pub fn watch(&self, id: &MachineId) -> Option<watch::Receiver<State>> {
        self.entries().get(id).map(|entry| entry.state.clone())
    }

    /// The machines that are not gone, oldest first.
    pub fn list(&self) -> Vec<(MachineId, State)> {
        self.entries().iter().map(|(id, entry)| (id.clone(), entry.state.borrow().clone())).collect()
    }

    /// How many machines are not gone.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// The memory of a machine's process; `None`: no such machine, or no process yet. Reads `/proc`: some milliseconds.
    pub fn memory(&self, id: &MachineId) -> Option<Memory> {
        let process = self.entries().get(id)?.process_info.get()?.process;
        process.is_alive().then(|| Memory::of(process.pid).ok()).flatten()
    }

    /// What a machine's keeper wrote at its end. Reads a file.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn receipt(&self, id: &MachineId) -> io::Result<Option<Receipt>> {
        Receipt::read(&self.inner.settings.receipts_dir, id)
    }

    /// The settings these machines run with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    fn run_dir_of(&self, id: &MachineId) -> PathBuf {
        self.inner.settings.run_dir.join(id.as_str())
    }

    /// A machine is gone: makes room for another.
    fn leave(&self, id: &MachineId) {
        self.entries().remove(id);
        let settings = &self.inner.settings;
        if let Err(error) = receipt::prune(&settings.receipts_dir, settings.receipts_max) {
            tracing::warn!(%error, "old receipts could not be removed");
        }
    }
}

/// Makes the directories and takes the lock.
fn prepare(settings: &Settings) -> Result<File, OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [&settings.run_dir, &settings.receipts_dir] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| OpenError::Directory { path: path.clone(), source })?;
    }
    let path = settings.run_dir.clone();
    let lock = File::open(&path).map_err(|source| OpenError::Directory { path: path.clone(), source })?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => OpenError::InUse { path: path.clone() },
        error => OpenError::Directory { path: path.clone(), source: error.into() },
    })?;
    Ok(lock)
}
