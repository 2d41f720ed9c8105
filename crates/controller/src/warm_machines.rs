//! Machines that are started before a session asks for one (`machines.warm_target`), so that a session begins in a ready machine.
//!
//! ```text
//!  keep_warm ─▶ started ─▶ ready ─▶ taken by a session, as if it had requested it
//!                  │         └────▶ too old, or too many: stopped
//!                  └─▶ exited: another one after a pause
//! ```
//!
//! Nothing of a person is in such a machine: entropy, time, identity, tool and token arrive when its session claims it, and a machine is
//! claimed once. Until it is taken it has a file in `warm/` of the state directory, so that the next server recognises one that no session
//! had; a machine that is taken has none.

use crate::config::Config;
use anteroom_machine::{Machines, State, StopReason};
use anteroom_wire::MachineId;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long a stop in order waits for the removal of the machines that wait.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// The directory of the files, below the state directory.
const DIRECTORY: &str = "warm";

/// The machines of this host that no session has, and those that a session is just taking.
#[derive(Debug, Clone)]
pub struct WarmMachines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// What a machine must have been started with to be used: the image and the settings of machines.
    made_of: String,
    machines: Mutex<BTreeMap<MachineId, Use>>,
    /// The server stops in order: no machine is started any more.
    is_closed: AtomicBool,
}

/// Whether a session is taking a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Waiting,
    Taken,
}

/// A machine that a session takes. It is known to [`WarmMachines::contains`] until this is dropped: by then it is in the session's state.
#[derive(Debug)]
pub struct TakenMachine {
    /// The machine's id.
    pub id: MachineId,
    /// Its state, which may be any: it may also have exited since.
    pub state: watch::Receiver<State>,
    pool: WarmMachines,
}

impl Drop for TakenMachine {
    fn drop(&mut self) {
        self.pool.machines().remove(&self.id);
    }
}

impl WarmMachines {
    /// Finds the machines of an earlier server that no session had. Files of machines that have ended, or were started with another image
    /// or other settings of machines, are removed; the next reconciliation stops such machines.
    ///
    /// # Errors
    /// The directory cannot be read, or a file in it cannot be removed.
    pub fn open(config: &Config, image_hash: &str, machines: &Machines) -> io::Result<Self> {
        let (directory, made_of) = (config.state_dir.join(DIRECTORY), format!("{image_hash}\n{:?}", config.machines));
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(&directory) {
            // It is created with the first warm machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries?.collect(),
        };
        for entry in entries {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<MachineId>().ok());
            let is_usable = |id: &MachineId| machines.watch(id).is_some_and(|state| is_alive(&state.borrow()));
            match id {
                Some(id) if is_usable(&id) && fs::read_to_string(&path).is_ok_and(|text| text == made_of) => {
                    found.insert(id, Use::Waiting);
                }
                _ => fs::remove_file(&path)?,
            }
        }
        if !found.is_empty() {
            tracing::info!(
                outcome = "warm_machines_adopted",
                count = found.len(),
                "warm machines of the earlier server adopted"
            );
        }
        Ok(Self(Arc::new(Inner { directory, made_of, machines: Mutex::new(found), is_closed: AtomicBool::new(false) })))
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Use>> {
        self.0.machines.lock()
    }

    fn file_of(&self, id: &MachineId) -> PathBuf {
        self.0.directory.join(id.as_str())
    }

    /// Whether this machine waits for a session, or is just being taken by one.
    pub fn contains(&self, id: &MachineId) -> bool {
        self.machines().contains_key(id)
    }

    /// The number of machines that wait for a session.
    pub fn count(&self) -> usize {
        self.machines().values().filter(|used| **used == Use::Waiting).count()
    }

    /// The machines that wait for a session, the oldest first.
    pub(crate) fn waiting(&self) -> Vec<MachineId> {
        self.machines().iter().filter(|(_, used)| **used == Use::Waiting).map(|(id, _)| id.clone()).collect()
    }

    /// Takes a machine: a ready one if there is one, else one that is starting. `None`: there is none.
    pub fn take(&self, machines: &Machines) -> Option<TakenMachine> {
        loop {
            let taken = self.mark_taken(machines)?;
            // Without its file it is no warm machine for the next server, whatever happens to this one.
            match fs::remove_file(self.file_of(&taken.id)) {
                Ok(()) => return Some(taken),
                Err(error) => {
                    tracing::error!(outcome = "warm_machine_not_taken", machine = %taken.id, %error, "warm machine not used: its file cannot be removed");
                    machines.stop(&taken.id, StopReason::Operator);
                }
            }
        }
    }

    fn mark_taken(&self, machines: &Machines) -> Option<TakenMachine> {
        let mut all = self.machines();
        let candidates = all.iter().filter(|(_, used)| **used == Use::Waiting);
        let alive = candidates.filter_map(|(id, _)| {
            let state = machines.watch(id)?;
            let rank = match *state.borrow() {
                State::Ready { .. } => 0,
                State::Waiting { .. } => 1,
                State::Cloning | State::Requested => 2,
                State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => return None,
            };
            Some((rank, id.clone(), state))
        });
        let (_, id, state) = alive.min_by_key(|(rank, id, _)| (*rank, id.clone()))?;
        all.insert(id.clone(), Use::Taken);
        drop(all);
        Some(TakenMachine { id, state, pool: self.clone() })
    }

    /// Stops the machines that wait, which no session would get any more. One whose removal takes too long is left to the next server.
    pub async fn close(&self, machines: &Machines) {
        self.0.is_closed.store(true, Ordering::Relaxed);
        let stopped = self.waiting().into_iter().filter_map(|id| {
            let state = machines.watch(&id)?;
            machines.stop(&id, StopReason::Operator);
            Some((id, state))
        });
        let all: Vec<_> = stopped.collect();
        let removed = async {
            for (id, mut state) in all {
                // An error: it was removed.
                let _ = state.wait_for(State::is_removed).await;
                self.remove_waiting(&id);
            }
        };
        let _ = timeout(CLOSE_MAX, removed).await;
    }

    /// Whether the server stops in order.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    /// Enters a machine that is about to be started.
    pub(crate) fn enter(&self, id: &MachineId) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0.directory)?;
        self.machines().insert(id.clone(), Use::Waiting);
        fs::write(self.file_of(id), &self.0.made_of).inspect_err(|_| _ = self.machines().remove(id))
    }

    /// Removes a waiting machine. `false`: a session is taking it, or has taken it.
    pub(crate) fn remove_waiting(&self, id: &MachineId) -> bool {
        let mut all = self.machines();
        if all.get(id) != Some(&Use::Waiting) {
            return false;
        }
        all.remove(id);
        drop(all);
        if let Err(error) = fs::remove_file(self.file_of(id)) {
            tracing::warn!(outcome = "warm_machine_file_not_removed", machine = %id, %error, "the file of a warm machine is left");
        }
        true
    }
}

/// The machines that are warm according to their files, for a report without a server.
pub fn list_recorded(state_dir: &Path) -> Vec<MachineId> {
    let entries = fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether it may be used, now or when it has started.
pub(crate) fn is_alive(state: &State) -> bool {
    match state {
        State::Requested | State::Cloning | State::Waiting { .. } | State::Ready { .. } => true,
        State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => false,
    }
}
