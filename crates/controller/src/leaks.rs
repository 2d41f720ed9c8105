//! Leak report: compares what exists on this host ([`inventory`]) with what the active sessions account for.
//!
//! An item is a leak if no active session accounts for it. A running server answers from its sessions in memory. Without a
//! server, the active sessions in the database count: their machines outlive a server and are adopted by the next one.

pub mod inventory;

use crate::{
    config::{Config, DatabasePasswordError},
    retention::{self, RetainedFile, RetentionLimits},
    session::server_context::ServerContext,
    unix_time, warm_machines,
};
use anteroom_machine::State;
use anteroom_store::{Store, StoreError};
use anteroom_wire::{
    MachineId, SessionId,
    operator_reports::{LeakReport, LeakRow, Orphan},
};
use inventory::{HostInventory, MachineProcess, TemplateDir};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Open files of an idle server: database, listeners, reactor, log, keep-alive connections of callers.
const OPEN_FILES_IDLE: u64 = 160;
/// Open files per session: three sockets of its machine, its viewers, its egress connections.
const OPEN_FILES_PER_SESSION: u64 = 48;
/// Time between the two inventories. Only an orphan in both is a leak: it was not just being created or removed.
const SECOND_INVENTORY_DELAY: Duration = Duration::from_millis(700);

/// The reason why a leak report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LeakError {
    /// The database cannot be read.
    #[error("the sessions cannot be read")]
    Store(#[from] StoreError),
    /// The password of the database cannot be read.
    #[error(transparent)]
    Password(#[from] DatabasePasswordError),
    /// The inventory of the host failed.
    #[error("this host's files or processes cannot be read")]
    Io(#[from] io::Error),
}

/// The sessions and machines that should exist.
#[derive(Debug, Default)]
pub struct ExpectedState {
    /// Whether a running server reported it; otherwise it was read from the database.
    pub is_server_running: bool,
    /// Machines that belong to a session.
    pub machines: BTreeSet<MachineId>,
    /// Active sessions.
    pub active: Vec<SessionId>,
    /// Active sessions without a supervisor task, each with the reason.
    pub unsupervised: Vec<(SessionId, &'static str)>,
    /// Number of supervisor tasks; `None` without a server.
    pub supervisors: Option<u64>,
    /// Hash of the current image. A template of this image is kept although no process uses it.
    pub image: Option<String>,
}

/// Makes the report in the running server. If the first inventory finds orphans, a second one after
/// [`SECOND_INVENTORY_DELAY`] must confirm them.
///
/// # Errors
/// The database or the host cannot be read.
pub async fn report_with_server(server_context: &ServerContext) -> Result<LeakReport, LeakError> {
    let config = server_context.config();
    let first = single_report(server_context, &config).await?;
    if first.orphans().next().is_none() {
        return Ok(first);
    }
    tokio::time::sleep(SECOND_INVENTORY_DELAY).await;
    Ok(confirmed(&first, single_report(server_context, &config).await?))
}

async fn single_report(server_context: &ServerContext, config: &Config) -> Result<LeakReport, LeakError> {
    let inventory = collect_inventory(config.clone(), true).await?;
    let rows = server_context.store.list_held_sessions().await?;
    let mut state = ExpectedState {
        is_server_running: true,
        supervisors: Some(server_context.sessions.len() as u64),
        image: Some(server_context.image.hash.clone()),
        ..ExpectedState::default()
    };
    for row in rows {
        if server_context.sessions.get(&row.id).is_none() {
            state.unsupervised.push((row.id.clone(), "it has no supervisor task in the server"));
        }
        state.active.push(row.id);
    }
    // Read after the inventory: a session that has a machine now had it then, or the second inventory no longer finds it.
    state.machines = inventory
        .machine_ids()
        .into_iter()
        .filter(|machine| {
            server_context.warm_machines.contains(machine) || server_context.sessions.by_machine(machine).is_some()
        })
        .collect();
    // Exited machines have no session any more; their keepers remove them.
    let exited = server_context.machines.list().into_iter().filter(|(_, state)| matches!(state, State::Exited { .. }));
    state.machines.extend(exited.map(|(machine, _)| machine));
    Ok(find_leaks(inventory, &state, config))
}

/// Makes the report without a server, from the database. `image`: hash of the current image.
///
/// # Errors
/// The database or the host cannot be read.
pub async fn report_without_server(config: &Config, image: Option<String>) -> Result<LeakReport, LeakError> {
    let mut state = ExpectedState { image, ..ExpectedState::default() };
    let database = config.database_address()?;
    if !database.is_missing_file() {
        let store = Store::open(&database, anteroom_store::StoreSettings::default()).await?;
        let rows = store.list_active_sessions().await;
        store.close().await;
        let now = unix_time::now_unix_ms();
        for row in rows? {
            if row.deadline_ms <= now {
                state.unsupervised.push((row.id.clone(), "its deadline has passed and no server runs"));
            } else {
                state.machines.extend(row.machine);
            }
            state.active.push(row.id);
        }
    }
    state.machines.extend(warm_machines::list_recorded(&config.state_dir));
    Ok(find_leaks(collect_inventory(config.clone(), false).await?, &state, config))
}

async fn collect_inventory(config: Config, as_server: bool) -> io::Result<HostInventory> {
    let collected = tokio::task::spawn_blocking(move || inventory::collect_inventory(&config, as_server)).await;
    collected.map_err(io::Error::other)?
}

/// The second report with only those orphans that are in the first report too. In a row that loses all its orphans, the
/// expected count becomes the actual one.
fn confirmed(first: &LeakReport, mut second: LeakReport) -> LeakReport {
    let names: BTreeSet<&str> = first.orphans().map(|orphan| orphan.name.as_str()).collect();
    for row in &mut second.rows {
        let before = row.orphans.len();
        row.orphans.retain(|orphan| names.contains(orphan.name.as_str()));
        if before > 0 && row.orphans.is_empty() {
            row.expected = row.exists;
        }
    }
    second
}

/// Compares the inventory with the expected state. Of `config` only paths and limits are used.
pub fn find_leaks(inventory: HostInventory, state: &ExpectedState, config: &Config) -> LeakReport {
    let is_owned =
        |machine: &Option<MachineId>| machine.as_ref().is_some_and(|machine| state.machines.contains(machine));
    let (keepers, others): (Vec<_>, Vec<_>) = inventory.processes.into_iter().partition(|process| process.is_keeper);
    let by_server = state.is_server_running;
    let mut rows = vec![
        processes("keepers", keepers, is_owned),
        processes("machine processes", others, is_owned),
        run_directories(inventory.run_dirs, state),
        sockets(inventory.sockets, state, config),
        retained_files("receipts", inventory.receipts, retention::receipt_limits(config), by_server),
        retained_files("bundles", inventory.bundles, retention::bundle_limits(config), by_server),
        unfinished_files(inventory.unfinished_files),
        sessions(state),
    ];
    if let Some(exists) = state.supervisors {
        let expected = state.active.len() as u64;
        rows.push(LeakRow { kind: "session supervisors".into(), exists, expected, orphans: Vec::new() });
    }
    rows.push(templates(inventory.templates, state));
    if let Some(open) = inventory.open_files {
        rows.push(open_files(open, state));
    }
    LeakReport { by_server, rows }
}

fn row(kind: &str, exists: usize, orphans: Vec<Orphan>) -> LeakRow {
    let expected = exists.saturating_sub(orphans.len()) as u64;
    LeakRow { kind: kind.to_owned(), exists: exists as u64, expected, orphans }
}

fn processes(kind: &str, found: Vec<MachineProcess>, is_owned: impl Fn(&Option<MachineId>) -> bool) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter(|process| !is_owned(&process.machine)).map(|process| Orphan {
        name: format!("process {} ({})", process.pid, process.command_line),
        why: match &process.machine {
            Some(machine) => format!("no session has the machine {machine}"),
            None => "it belongs to no machine".into(),
        },
        remedy: format!("kill {}", process.pid),
    });
    row(kind, exists, orphans.collect())
}

fn run_directories(found: Vec<(PathBuf, Option<MachineId>)>, state: &ExpectedState) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter_map(|(path, machine)| {
        let why = match machine {
            Some(machine) if state.machines.contains(&machine) => return None,
            Some(machine) => format!("no session has the machine {machine}"),
            None => "its name is not a machine id".into(),
        };
        Some(orphaned_path("rm -r", &path, why))
    });
    row("run directories", exists, orphans.collect())
}

/// An orphaned path that `command` removes.
fn orphaned_path(command: &str, path: &Path, why: String) -> Orphan {
    Orphan { name: path.display().to_string(), why, remedy: format!("{command} '{}'", path.display()) }
}

fn sockets(found: Vec<PathBuf>, state: &ExpectedState, config: &Config) -> LeakRow {
    let exists = found.len();
    let run = config.state_dir.join("run");
    let machine_of = |path: &Path| -> Option<MachineId> {
        path.strip_prefix(&run).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
    };
    let orphans = found.into_iter().filter_map(|path| {
        let is_api_socket = path == config.state_dir.join(crate::config::LOCAL_API_SOCKET_NAME);
        let is_owned = machine_of(&path).is_some_and(|machine| state.machines.contains(&machine));
        (!is_api_socket && !is_owned).then(|| orphaned_path("rm", &path, "no machine of a session uses it".into()))
    });
    row("sockets", exists, orphans.collect())
}

fn retained_files(kind: &str, found: Vec<RetainedFile>, limits: RetentionLimits, by_server: bool) -> LeakRow {
    let exists = found.len() as u64;
    let over_limit = retention::find_over_limit(found, limits, SystemTime::now());
    let when = if by_server { "at its next reconciliation" } else { "after its start" };
    let orphans = over_limit
        .into_iter()
        .map(|(file, reason)| orphaned_path("rm", &file.path, format!("{reason}; the server removes it {when}")));
    let expected = exists.min(limits.files_max as u64);
    LeakRow { kind: kind.to_owned(), exists, expected, orphans: orphans.collect() }
}

fn unfinished_files(found: Vec<PathBuf>) -> LeakRow {
    let exists = found.len();
    let why = "the process that was writing it has exited";
    row("unfinished files", exists, found.iter().map(|path| orphaned_path("rm", path, why.into())).collect())
}

fn sessions(state: &ExpectedState) -> LeakRow {
    let remedy = if state.is_server_running {
        "wait for the next reconciliation, or run: anteroom reconcile"
    } else {
        "start the server: anteroom serve"
    };
    let orphans = state.unsupervised.iter().map(|(session, why)| Orphan {
        name: session.to_string(),
        why: (*why).to_owned(),
        remedy: remedy.to_owned(),
    });
    row("active sessions", state.active.len(), orphans.collect())
}

fn templates(found: Vec<TemplateDir>, state: &ExpectedState) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter_map(|template| {
        let is_current = template.image.is_some() && template.image == state.image;
        let is_valid = is_current || template.image_exists;
        let why = match (template.is_in_use || is_valid, template.image) {
            (true, _) => return None,
            (false, Some(_)) => "its image was removed and no machine or server uses it",
            (false, None) => "it is unfinished and no process is making it",
        };
        Some(orphaned_path("rm -r", &template.path, format!("{why}; the server also removes it when it starts")))
    });
    row("templates", exists, orphans.collect())
}

fn open_files(open: BTreeMap<String, u64>, state: &ExpectedState) -> LeakRow {
    let exists = open.values().sum();
    let limit = OPEN_FILES_IDLE + OPEN_FILES_PER_SESSION * state.supervisors.unwrap_or(0);
    let mut orphans = Vec::new();
    if exists > limit {
        let pid = std::process::id();
        let kinds: Vec<String> = open.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        orphans.push(Orphan {
            // Without a count: the second report must have the same name.
            name: "open files of the server".into(),
            why: format!("at most {limit} are expected, {} more are open: {}", exists - limit, kinds.join(", ")),
            remedy: format!("ls -l /proc/{pid}/fd, then restart the server: machines and sessions continue"),
        });
    }
    // The limit is a maximum, not an exact count.
    LeakRow { kind: "open files".into(), exists, expected: limit.min(exists), orphans }
}

#[cfg(test)]
mod tests;
