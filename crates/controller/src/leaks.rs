//! What exists on this host against what should: the comparison. Looking is in [`look`].
//!
//! A thing is unowned when no session that lives leads to it. With a server, its owners say so; without one, the database's
//! active rows do: their machines outlive a server and are taken over by the next.

pub mod look;

use crate::{
    app::App,
    bundle,
    bundle::shelf::{self, Item, Limits},
    clock,
    config::Config,
};
use anteroom_machine::State;
use anteroom_store::{Store, StoreError};
use anteroom_wire::{
    MachineId, SessionId,
    operations::{LeakReport, LeakRow, Orphan},
};
use look::{Census, Process, Template};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Open files of a server that serves nothing: database, listeners, reactor, log, callers' kept connections.
const OPEN_FILES_IDLE: u64 = 160;
/// Those of one session: three sockets of its machine, its viewers, its way out.
const OPEN_FILES_A_SESSION: u64 = 48;
/// What is unowned at two looks this far apart was not just being made or ended.
const LOOK_AGAIN: Duration = Duration::from_millis(700);

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum LeakError {
    /// The database cannot be read.
    #[error("the sessions cannot be read")]
    Store(#[from] StoreError),
    /// The host cannot be looked at.
    #[error("this host's files or processes cannot be looked at")]
    Io(#[from] io::Error),
}

/// Who should have what.
#[derive(Debug, Default)]
pub struct Known {
    /// Whether a server says so.
    pub by_server: bool,
    /// Machines with a session.
    pub machines: BTreeSet<MachineId>,
    /// Active rows.
    pub active: Vec<SessionId>,
    /// Those of them that nobody looks after, and why.
    pub ownerless: Vec<(SessionId, &'static str)>,
    /// How many tasks of the server own a session.
    pub owners: Option<u64>,
    /// The image that a template may be kept for, though nobody uses it at the moment.
    pub image: Option<String>,
}

/// Looks as the server that runs here.
///
/// # Errors
/// The database or the host cannot be looked at.
pub async fn with_server(app: &App) -> Result<LeakReport, LeakError> {
    let config = app.config.clone();
    let first = as_server(app, &config).await?;
    if first.orphans().next().is_none() {
        return Ok(first);
    }
    tokio::time::sleep(LOOK_AGAIN).await;
    Ok(in_both(&first, as_server(app, &config).await?))
}

async fn as_server(app: &App, config: &Config) -> Result<LeakReport, LeakError> {
    let census = look_at(config.clone(), true).await?;
    let rows = app.store.active_sessions().await?;
    let mut known = Known {
        by_server: true,
        owners: Some(app.sessions.len() as u64),
        image: Some(app.image.hash.clone()),
        ..Known::default()
    };
    for row in rows {
        if app.sessions.get(&row.id).is_none() {
            known.ownerless.push((row.id.clone(), "no task of the server owns it"));
        }
        known.active.push(row.id);
    }
    // Asked last: who owns a machine now owned it when it was looked at, or it is gone by the second look.
    known.machines =
        census.machines().into_iter().filter(|machine| app.sessions.of_machine(machine).is_some()).collect();
    // Dead ones belong to nobody any more; their keepers clear them away.
    let dead = app.machines.list().into_iter().filter(|(_, state)| matches!(state, State::Exited { .. }));
    known.machines.extend(dead.map(|(machine, _)| machine));
    Ok(compare(census, &known, config))
}

/// Looks without a server.
///
/// # Errors
/// The database or the host cannot be looked at.
pub async fn without_server(config: &Config, image: Option<String>) -> Result<LeakReport, LeakError> {
    let mut known = Known { image, ..Known::default() };
    let database = config.state_dir.join("anteroom.db");
    if database.exists() {
        let store = Store::open(&database, anteroom_store::Settings::default()).await?;
        let rows = store.active_sessions().await;
        store.close().await;
        let now = clock::now();
        for row in rows? {
            if row.deadline_ms <= now {
                known.ownerless.push((row.id.clone(), "its deadline is over and no server runs"));
            } else {
                known.machines.extend(row.machine);
            }
            known.active.push(row.id);
        }
    }
    Ok(compare(look_at(config.clone(), false).await?, &known, config))
}

async fn look_at(config: Config, as_server: bool) -> io::Result<Census> {
    let looked = tokio::task::spawn_blocking(move || look::look(&config, as_server)).await;
    looked.map_err(io::Error::other)?
}

/// The second report without what only it or only the first has. What was just being made or ended should exist, too.
fn in_both(first: &LeakReport, mut second: LeakReport) -> LeakReport {
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

/// What exists against what should. Pure but for the paths' names.
pub fn compare(census: Census, known: &Known, config: &Config) -> LeakReport {
    let owned = |machine: &Option<MachineId>| machine.as_ref().is_some_and(|machine| known.machines.contains(machine));
    let (keepers, others): (Vec<_>, Vec<_>) = census.processes.into_iter().partition(|process| process.is_keeper);
    let mut rows = vec![
        processes("keepers", keepers, owned),
        processes("machine processes", others, owned),
        run_directories(census.run_dirs, known),
        sockets(census.sockets, known, config),
    ];
    rows.push(shelf("receipts", census.receipts, bundle::receipt_limits(config), known.by_server));
    rows.push(shelf("bundles", census.bundles, bundle::limits(config), known.by_server));
    rows.push(leftovers(census.half_written));
    rows.push(sessions(known));
    if let Some(owners) = known.owners {
        let active = known.active.len() as u64;
        rows.push(LeakRow { kind: "owner tasks".into(), exists: owners, expected: active, orphans: Vec::new() });
    }
    rows.push(templates(census.templates, known));
    if let Some(open) = census.open_files {
        rows.push(open_files(open, known));
    }
    LeakReport { by_server: known.by_server, rows }
}

fn row(kind: &str, exists: usize, orphans: Vec<Orphan>) -> LeakRow {
    let expected = exists.saturating_sub(orphans.len()) as u64;
    LeakRow { kind: kind.to_owned(), exists: exists as u64, expected, orphans }
}

fn processes(kind: &str, found: Vec<Process>, owned: impl Fn(&Option<MachineId>) -> bool) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter(|process| !owned(&process.machine)).map(|process| Orphan {
        name: format!("process {} ({})", process.pid, process.command),
        why: match &process.machine {
            Some(machine) => format!("no session has the machine {machine}"),
            None => "it belongs to no machine".into(),
        },
        remedy: format!("kill {}", process.pid),
    });
    row(kind, exists, orphans.collect())
}

fn run_directories(found: Vec<(PathBuf, Option<MachineId>)>, known: &Known) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter_map(|(path, machine)| {
        let why = match machine {
            Some(machine) if known.machines.contains(&machine) => return None,
            Some(machine) => format!("no session has the machine {machine}"),
            None => "it is not named like a machine".into(),
        };
        Some(gone_with("rm -r", &path, why))
    });
    row("run directories", exists, orphans.collect())
}

fn gone_with(command: &str, path: &Path, why: String) -> Orphan {
    Orphan { name: path.display().to_string(), why, remedy: format!("{command} '{}'", path.display()) }
}

fn sockets(found: Vec<PathBuf>, known: &Known, config: &Config) -> LeakRow {
    let exists = found.len();
    let run = config.state_dir.join("run");
    let of = |path: &Path| -> Option<MachineId> {
        path.strip_prefix(&run).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
    };
    let orphans = found.into_iter().filter_map(|path| {
        let ours = path == config.state_dir.join(crate::config::SOCKET_NAME);
        let owned = of(&path).is_some_and(|machine| known.machines.contains(&machine));
        (!ours && !owned).then(|| gone_with("rm", &path, "no machine with a session has it".into()))
    });
    row("sockets", exists, orphans.collect())
}

fn shelf(kind: &str, found: Vec<Item>, limits: Limits, by_server: bool) -> LeakRow {
    let exists = found.len() as u64;
    let excess = shelf::excess(found, limits, SystemTime::now());
    let next = if by_server { "the next sweep" } else { "the first sweep of a server" };
    let orphans =
        excess.into_iter().map(|(item, why)| gone_with("rm", &item.path, format!("{why}; {next} removes it")));
    let expected = exists.min(limits.files_max as u64);
    LeakRow { kind: kind.to_owned(), exists, expected, orphans: orphans.collect() }
}

fn leftovers(found: Vec<PathBuf>) -> LeakRow {
    let exists = found.len();
    let why = "it was being written by a process that is gone";
    row("half-written files", exists, found.iter().map(|path| gone_with("rm", path, why.into())).collect())
}

fn sessions(known: &Known) -> LeakRow {
    let remedy = if known.by_server { "wait for the next sweep, or: anteroom sweep" } else { "anteroom serve" };
    let orphans = known.ownerless.iter().map(|(session, why)| Orphan {
        name: session.to_string(),
        why: (*why).to_owned(),
        remedy: remedy.to_owned(),
    });
    row("active sessions", known.active.len(), orphans.collect())
}

fn templates(found: Vec<Template>, known: &Known) -> LeakRow {
    let exists = found.len();
    let orphans = found.into_iter().filter_map(|template| {
        let kept = template.image.is_some() && template.image == known.image;
        let why = match (template.in_use, kept, template.image) {
            (true, _, _) | (_, true, _) => return None,
            (false, false, Some(_)) => "it is of another image and no machine or server uses it",
            (false, false, None) => "it was never finished and nobody makes it any more",
        };
        Some(gone_with("rm -r", &template.path, format!("{why}; a start of the server removes it, too")))
    });
    row("templates", exists, orphans.collect())
}

fn open_files(open: BTreeMap<String, u64>, known: &Known) -> LeakRow {
    let exists = open.values().sum();
    let expected = OPEN_FILES_IDLE + OPEN_FILES_A_SESSION * known.owners.unwrap_or(0);
    let mut orphans = Vec::new();
    if exists > expected {
        let pid = std::process::id();
        let kinds: Vec<String> = open.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        orphans.push(Orphan {
            // The same name at the next look, however many there are by then.
            name: "open files of the server".into(),
            why: format!("its sessions explain {expected}; it has {} more, in all {}", exists - expected, kinds.join(", ")),
            remedy: format!("ls -l /proc/{pid}/fd, then start the server again: machines and sessions live on"),
        });
    }
    // As many as there may be is no number that should exist.
    LeakRow { kind: "open files".into(), exists, expected: expected.min(exists), orphans }
}

#[cfg(test)]
mod tests;
