//! A census of machines by process, over all hosts of a lab: which ones were alive at the same time.

use anteroom_wire::{MachineId, SessionId};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Time between two looks at all processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A census that goes on until it is dropped.
#[derive(Debug)]
pub struct Census {
    found: Arc<Mutex<Found>>,
    _goes_on: DropGuard,
}

#[derive(Debug, Default)]
struct Found {
    /// Each set of machines that were alive at one look.
    together: BTreeSet<BTreeSet<MachineId>>,
    /// Machines that were stopped by a signal at a look.
    frozen: BTreeSet<MachineId>,
    alive: BTreeSet<MachineId>,
}

impl Census {
    /// Begins a census of the machines below these directories of servers.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn begin(servers: Vec<PathBuf>) -> std::io::Result<Self> {
        let (found, end) = (Arc::<Mutex<Found>>::default(), CancellationToken::new());
        let (results, goes_on) = (Arc::clone(&found), end.clone());
        thread::Builder::new().name("census".to_owned()).spawn(move || {
            while !goes_on.is_cancelled() {
                results.lock().add(look(&servers));
                thread::park_timeout(LOOK_EVERY);
            }
        })?;
        Ok(Self { found, _goes_on: end.drop_guard() })
    }

    /// The machines that were alive at the last look.
    pub fn alive(&self) -> BTreeSet<MachineId> {
        self.found.lock().alive.clone()
    }

    /// The sessions that had two machines at once, of which none was ever frozen with its whole host.
    pub fn doubles(&self, machines: &BTreeMap<MachineId, SessionId>) -> BTreeSet<SessionId> {
        let found = self.found.lock();
        let mut doubles = BTreeSet::new();
        for together in &found.together {
            let free = together.iter().filter(|machine| !found.frozen.contains(*machine));
            let mut seen = BTreeSet::new();
            doubles.extend(free.filter_map(|machine| machines.get(machine)).filter(|id| !seen.insert(*id)).cloned());
        }
        doubles
    }
}

impl Found {
    fn add(&mut self, look: BTreeMap<MachineId, bool>) {
        self.frozen.extend(look.iter().filter(|(_, is_frozen)| **is_frozen).map(|(machine, _)| machine.clone()));
        self.alive = look.into_keys().collect();
        if self.alive.len() > 1 {
            self.together.insert(self.alive.clone());
        }
    }
}

/// The machines that have a process, and whether it is stopped.
fn look(servers: &[PathBuf]) -> BTreeMap<MachineId, bool> {
    let mut machines = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&str> = command.split(|byte| *byte == 0).filter_map(|word| str::from_utf8(word).ok()).collect();
        let machine = |path: &str| {
            let server = servers.iter().find_map(|dir| path.strip_prefix(dir.to_str()?))?;
            server.split('/').find_map(|part| part.parse::<MachineId>().ok())
        };
        match words[..] {
            // A keeper: its machine is its first child, which may name nothing.
            [_, "keeper", run_dir, ..] => {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
                if let (Some(machine), Some(state)) = (machine(run_dir), child.and_then(state)) {
                    machines.insert(machine, state == 'T');
                }
            }
            // A plain process, also without its keeper.
            [_, "--config", config, ..] if config.ends_with("/agent.json") => {
                if let (Some(machine), Some(state)) = (machine(config), state(pid)) {
                    machines.insert(machine, state == 'T');
                }
            }
            _ => {}
        }
    }
    machines
}

/// The state of a process that has not ended: `T` if it is stopped.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_machines_of_a_session_at_one_look_are_a_double_unless_one_was_frozen() {
        let machine = |number: u64| MachineId::from_parts(number, [0; 10]);
        let session = SessionId::from_parts(1, [0; 10]);
        let machines = BTreeMap::from([1, 2, 3].map(|number| (machine(number), session.clone())));
        let mut found = Found::default();
        found.add(BTreeMap::from([(machine(1), false)]));
        found.add(BTreeMap::from([(machine(2), true), (machine(3), false)]));
        let (found, end) = (Arc::new(Mutex::new(found)), CancellationToken::new());
        let census = Census { found: Arc::clone(&found), _goes_on: end.drop_guard() };
        assert!(census.doubles(&machines).is_empty());
        found.lock().add(BTreeMap::from([(machine(1), false), (machine(3), false)]));
        assert_eq!(census.doubles(&machines), BTreeSet::from([session]));
    }
}
