//! Audits a server that has no active session: its processes, files, database rows and resource usage.

use crate::{LeakScan, WAIT_MAX, eventually, processes};
use anyhow::{Context, ensure};
use rustix::process::Pid;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Open files above the baseline that are no leak: pooled connections of HTTP clients and of the database.
const EXTRA_FILES_MAX: usize = 24;
/// Threads above the baseline: those for blocking work, which end after ten idle seconds.
const EXTRA_THREADS_MAX: usize = 64;
/// Memory above the baseline, KiB, for any number of sessions: caches of the allocator and the database.
const EXTRA_RESIDENT_KIB_MAX: u64 = 96 * 1024;

/// Database queries that must return 0, each with what it counts.
const MUST_BE_ZERO: &[(&str, &str)] = &[
    ("active sessions", "SELECT count(*) FROM sessions WHERE state = 'active'"),
    (
        "credentials of sessions that are not completed",
        "SELECT count(*) FROM credentials c JOIN sessions s ON s.id = c.session_id
         WHERE s.state <> 'completed' OR s.credential_id <> c.id",
    ),
    (
        "completed sessions without their credential",
        "SELECT count(*) FROM sessions s WHERE s.state = 'completed'
         AND NOT EXISTS (SELECT 1 FROM credentials c WHERE c.id = s.credential_id AND c.session_id = s.id)",
    ),
    (
        "sessions without exactly one end on their timeline",
        "SELECT count(*) FROM sessions s WHERE s.state <> 'active' AND (SELECT count(*) FROM timeline t
         WHERE t.session_id = s.id AND t.kind IN ('completed', 'failed', 'cancelled', 'expired')) <> 1",
    ),
    (
        "sessions whose end on the timeline differs from their row",
        "SELECT count(*) FROM sessions s WHERE s.state <> 'active'
         AND NOT EXISTS (SELECT 1 FROM timeline t WHERE t.session_id = s.id AND t.kind = s.state)",
    ),
    (
        "timelines with a gap",
        "SELECT count(*) FROM (SELECT 1 FROM timeline GROUP BY session_id HAVING max(number) <> count(*))",
    ),
];

/// Counts machines whose end is on no timeline. Allowed only for machines that ended while no server process was running.
const UNREPORTED_ENDS: &str =
    "SELECT count(*) FROM timeline request WHERE request.kind = 'machine_requested' AND NOT EXISTS (
    SELECT 1 FROM timeline exit WHERE exit.session_id = request.session_id AND exit.kind = 'machine_exited'
    AND json_extract(exit.data, '$.machine') = json_extract(request.data, '$.machine'))";

/// The server to audit.
#[derive(Debug, Clone)]
pub struct AuditTarget {
    /// The directory of the test server: every process that names it belongs to the server.
    pub dir: PathBuf,
    /// The server's state directory.
    pub state_dir: PathBuf,
    /// The server's process.
    pub server: Pid,
    /// The server's resource usage before its first session.
    pub baseline: processes::ResourceUsage,
}

/// Audits the server while no session is active, and returns a summary for the log.
///
/// # Errors
/// A process, file or inconsistent row was found, or the server uses too many resources.
pub async fn audit_server(target: &AuditTarget) -> anyhow::Result<String> {
    wait_machines_removed(target).await?;
    check_files(&target.state_dir)?;
    let now = wait_resources_released(target).await?;
    let mut database = open_database(&target.state_dir).await?;
    for (what, query) in MUST_BE_ZERO {
        let found = count(&mut database, query).await?;
        ensure!(found == 0, "{found} {what}");
    }
    let unreported = count(&mut database, UNREPORTED_ENDS).await?;
    let sessions = count(&mut database, "SELECT count(*) FROM sessions").await?;
    database.close().await?;
    let files = now.files.map_or_else(
        || "open files not counted: only the superuser can read those of the server".to_owned(),
        |files| format!("{files} files"),
    );
    Ok(format!(
        "{sessions} sessions; server: {files}, {} threads, {} MiB; {unreported} machines whose end is on no timeline",
        now.threads,
        now.resident_kib / 1024
    ))
}

/// Waits until no machine has a run directory or a process.
async fn wait_machines_removed(target: &AuditTarget) -> anyhow::Result<()> {
    let server = target.server.as_raw_nonzero().get();
    let left = || -> anyhow::Result<_> {
        let run = fs::read_dir(target.state_dir.join("run"))?;
        let machines: Vec<_> = run.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        let all = LeakScan::for_dir(&target.dir).find_processes();
        let processes: Vec<_> = all.into_iter().filter(|found| found.pid != server).collect();
        Ok((machines, processes))
    };
    let removed = eventually("every machine is removed", WAIT_MAX, async || {
        let (machines, processes) = left()?;
        Ok((machines.is_empty() && processes.is_empty()).then_some(()))
    });
    removed.await.with_context(|| format!("machines and processes are left: {:#?}", left()))
}

/// Checks that the state directory contains only the database, the key, the lock, the local name, the CLI's socket, receipts, logs and the audit trail.
fn check_files(state_dir: &Path) -> anyhow::Result<()> {
    let unexpected: Vec<PathBuf> =
        LeakScan::for_dir(state_dir).list_files("").into_iter().filter(|path| !is_expected(state_dir, path)).collect();
    ensure!(unexpected.is_empty(), "files are left: {unexpected:?}");
    Ok(())
}

fn is_expected(state_dir: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(state_dir) else { return false };
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["receipts" | "run" | "log" | "audit"] => path.is_dir(),
        ["audit", name] => {
            ["head.json", "lock", "settings.json"].contains(&name)
                || name.starts_with("audit-") && name.ends_with(".jsonl")
        }
        ["log", _] => path.is_file(),
        ["receipts", name] => name.starts_with("mac_") && name.ends_with(".json"),
        [name] => {
            ["vault.key", "lock", "local_name", "anteroom.sock"].contains(&name)
                || name.starts_with("anteroom.db")
                || name.contains("log")
        }
        _ => false,
    }
}

/// Waits until the server's resource usage is near the baseline; it may be higher for a short time.
async fn wait_resources_released(target: &AuditTarget) -> anyhow::Result<processes::ResourceUsage> {
    let (server, baseline) = (target.server, target.baseline);
    let released = eventually("the server releases its resources", WAIT_MAX, async || {
        let now = processes::read_resource_usage(server).context("the server is not running")?;
        let fits = now.files <= baseline.files.map(|files| files + EXTRA_FILES_MAX)
            && now.threads <= baseline.threads + EXTRA_THREADS_MAX
            && now.resident_kib <= baseline.resident_kib + EXTRA_RESIDENT_KIB_MAX;
        Ok(fits.then_some(now))
    });
    released.await.with_context(|| format!("now {:?}, baseline {baseline:?}", processes::read_resource_usage(server)))
}

/// Opens the server's database read-only.
async fn open_database(state_dir: &Path) -> anyhow::Result<SqliteConnection> {
    let options =
        SqliteConnectOptions::new().filename(state_dir.join("anteroom.db")).read_only(true).busy_timeout(WAIT_MAX);
    Ok(options.connect().await?)
}

async fn count(database: &mut SqliteConnection, query: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query(query).fetch_one(database).await?.try_get(0)?)
}

#[cfg(test)]
#[test]
fn unexpected_file_in_state_directory_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["anteroom.db", "anteroom.db-wal", "vault.key"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("run")).unwrap();
    check_files(dir.path()).unwrap();
    fs::create_dir(dir.path().join("run/mac_left")).unwrap();
    assert!(check_files(dir.path()).unwrap_err().to_string().contains("mac_left"));
}
