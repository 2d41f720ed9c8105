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
mod connect;
mod driver;
mod pulse;

use crate::{
    channel::{CallLimits, HostService},
    process::{Memory, ProcessId},
    receipt::{self, Receipt},
    spec::{Brief, Recipe, RecipeError},
    state::{Answer, Denied, State, StopReason},
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
const ORDERS_MAX: usize = 4;

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
    pub machine_s_max: u64,
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
    pub hung_ms_max: u64,
    /// How long a keeper that was told to end its machine, or whose machine's process has ended, may take to clear away before
    /// it is killed itself, milliseconds.
    pub keeper_ms_max: u64,
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
            machine_s_max: 4 * 3_600,
            machines_max: 16,
            console_bytes_max: 32 * 1024,
            probe_every_ms: 20,
            first_echo_ms: 1_000,
            ping_every_ms: 2_000,
            ping_ms_max: 6_000,
            hung_ms_max: 20_000,
            keeper_ms_max: 15_000,
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
pub enum Refused {
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
    Recipe(#[source] RecipeError),
}

/// The machines of this host. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    leashed: bool,
    recipe: Mutex<Arc<dyn Recipe>>,
    host: HostService,
    tasks: TaskTracker,
    stop: CancellationToken,
    machines: Mutex<BTreeMap<MachineId, Entry>>,
    /// Held as long as this value lives: one server per run directory.
    _lock: File,
}

/// A machine's process, and when it was reported, milliseconds after the machine was asked for.
#[derive(Debug, Clone, Copy)]
struct Born {
    process: ProcessId,
    after_ms: u64,
}

/// What a driver can be asked for.
enum Order {
    Stop(StopReason),
    /// Disconnect, save everything but the RAM into a new file, end.
    Save(PathBuf),
}

/// A machine that is not gone.
struct Entry {
    state: watch::Receiver<State>,
    orders: mpsc::Sender<Order>,
    born: Arc<OnceLock<Born>>,
}

/// What a driver needs of its `Entry`.
struct Seat {
    id: MachineId,
    image_hash: String,
    state: watch::Sender<State>,
    orders: mpsc::Receiver<Order>,
    born: Arc<OnceLock<Born>>,
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
        recipe: Arc<dyn Recipe>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let machines = Self::new(settings, recipe, host, tasks, stop, false)?;
        machines.adopt_all().await?;
        Ok(machines)
    }

    /// A place for machines that end when this process does.
    pub(crate) fn leashed(
        settings: Settings,
        recipe: Arc<dyn Recipe>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        Self::new(settings, recipe, host, tasks, stop, true)
    }

    fn new(
        settings: Settings,
        recipe: Arc<dyn Recipe>,
        host: HostService,
        tasks: TaskTracker,
        stop: CancellationToken,
        leashed: bool,
    ) -> Result<Self, OpenError> {
        let lock = prepare(&settings)?;
        let (recipe, machines) = (Mutex::new(recipe), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { settings, leashed, recipe, host, tasks, stop, machines, _lock: lock }) })
    }

    /// From now on machines are started from `recipe`; those that live keep theirs.
    pub fn set_recipe(&self, recipe: Arc<dyn Recipe>) {
        *self.inner.recipe.lock().unwrap_or_else(PoisonError::into_inner) = recipe;
    }

    /// The hash of the image that new machines will run.
    pub fn image_hash(&self) -> String {
        self.recipe().image_hash().to_owned()
    }

    fn recipe(&self) -> Arc<dyn Recipe> {
        self.inner.recipe.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<MachineId, Entry>> {
        self.inner.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the machine `id` and returns at once; the receiver tells what becomes of it, up to `Gone`.
    ///
    /// # Errors
    /// When there is no room, no recipe, or such a machine already.
    pub fn start(&self, id: MachineId) -> Result<watch::Receiver<State>, Refused> {
        if self.inner.stop.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let recipe = self.recipe();
        let brief = Brief {
            machine: id.clone(),
            image_hash: recipe.image_hash().to_owned(),
            spec: recipe.spec(&id).map_err(Refused::Recipe)?,
            deadline_ms: self.inner.settings.machine_s_max.saturating_mul(1_000),
            receipts_dir: self.inner.settings.receipts_dir.clone(),
            leashed: self.inner.leashed,
            console_bytes_max: self.inner.settings.console_bytes_max,
        };
        let seat = self.seat(id, brief.image_hash.clone(), State::Requested)?;
        let watched = seat.state.subscribe();
        self.inner.tasks.spawn(driver::start(self.clone(), seat, brief));
        Ok(watched)
    }

    /// Enters a machine, if there is room and none of that name. What is adopted always has room: it is there.
    fn seat(&self, id: MachineId, image_hash: String, state: State) -> Result<Seat, Refused> {
        let mut entries = self.entries();
        if entries.contains_key(&id) {
            return Err(Refused::Duplicate);
        }
        let machines_max = self.inner.settings.machines_max;
        let fresh = matches!(state, State::Requested);
        if fresh && entries.len() >= usize::try_from(machines_max).unwrap_or(usize::MAX) {
            return Err(Refused::NoCapacity { machines: entries.len(), machines_max });
        }
        let (state, watched) = watch::channel(state);
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let born = Arc::new(OnceLock::new());
        entries.insert(id.clone(), Entry { state: watched, orders: order, born: born.clone() });
        Ok(Seat { id, image_hash, state, orders, born })
    }

    /// Asks for the machine's end; the receiver of its state tells when nothing is left. Asking again is fine.
    pub fn stop(&self, id: &MachineId, why: StopReason) -> Answer {
        let entries = self.entries();
        let Some(entry) = entries.get(id) else { return Answer::Denied(Denied::Unknown) };
        let over = matches!(*entry.state.borrow(), State::Stopping { .. } | State::Dead { .. } | State::Gone { .. });
        if over || entry.orders.try_send(Order::Stop(why)).is_err() { Answer::Ignored } else { Answer::Enqueued }
    }

    /// Has a ready machine's state saved into the new file `state`, without its RAM, and the machine ended. The receipt
    /// tells whether that succeeded.
    pub(crate) fn save(&self, id: &MachineId, state: PathBuf) -> Answer {
        match self.entries().get(id) {
            None => Answer::Denied(Denied::Unknown),
            Some(entry) if entry.orders.try_send(Order::Save(state)).is_ok() => Answer::Enqueued,
            Some(_) => Answer::Ignored,
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

    /// Whether another machine may be started.
    pub fn has_room(&self) -> bool {
        self.count() < usize::try_from(self.inner.settings.machines_max).unwrap_or(usize::MAX)
    }

    /// The memory of a machine's process; `None`: no such machine, or no process yet. Reads `/proc`: some milliseconds.
    pub fn memory(&self, id: &MachineId) -> Option<Memory> {
        let process = self.entries().get(id)?.born.get()?.process;
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
