//! What may be there when no session lives, and what may not: processes, sockets, files, rows, the server's own holdings.

use crate::{Leaks, processes, test_server::WAIT_MAX};
use anyhow::{Context, bail, ensure};
use rustix::process::Pid;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Open files beyond a young server's that are no leak: connections of HTTP clients and of the database that are kept for
/// later use.
const FILES_MORE_MAX: usize = 24;
/// Threads beyond a young server's: those for blocking work, which go after ten idle seconds.
const THREADS_MORE_MAX: usize = 64;
/// Memory beyond a young server's, KiB, however many sessions it has seen: caches of the allocator and the database.
const RESIDENT_MORE_KIB_MAX: u64 = 96 * 1024;

/// Questions to the database whose answer must be 0.
const NEVER: &[(&str, &str)] = &[
    ("active sessions although nobody uses one", "SELECT count(*) FROM sessions WHERE state = 'active'"),
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
        "sessions that did not end exactly once on their timeline",
        "SELECT count(*) FROM sessions s WHERE s.state <> 'active' AND (SELECT count(*) FROM timeline t
         WHERE t.session_id = s.id AND t.kind IN ('completed', 'failed', 'cancelled', 'expired')) <> 1",
    ),
    (
        "sessions whose end on the timeline is not that of their row",
        "SELECT count(*) FROM sessions s WHERE s.state <> 'active'
         AND NOT EXISTS (SELECT 1 FROM timeline t WHERE t.session_id = s.id AND t.kind = s.state)",
    ),
    (
        "timelines with a gap",
        "SELECT count(*) FROM (SELECT 1 FROM timeline GROUP BY session_id HAVING max(number) <> count(*))",
    ),
];

/// Machines of which the timeline does not tell the end: only those that ended while no server was there may be so.
const UNTOLD: &str = "SELECT count(*) FROM timeline asked WHERE asked.kind = 'machine_requested' AND NOT EXISTS (
    SELECT 1 FROM timeline gone WHERE gone.session_id = asked.session_id AND gone.kind = 'machine_exited'
    AND json_extract(gone.data, '$.machine') = json_extract(asked.data, '$.machine'))";

/// Where to look.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whatever belongs to the server has this directory about it.
    pub dir: PathBuf,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its process.
    pub server: Pid,
    /// What it held before its first session.
    pub young: processes::Holds,
}

/// Looks around while no session lives; the answer is what was seen, in words.
///
/// # Errors
/// What is left, or is not as it must be.
pub async fn audit(place: &Place) -> anyhow::Result<String> {
    settled(place).await?;
    files(&place.state_dir)?;
    let now = within(place).await?;
    let mut database = open(&place.state_dir).await?;
    for (what, question) in NEVER {
        let found = count(&mut database, question).await?;
        ensure!(found == 0, "{found} {what}");
    }
    let untold = count(&mut database, UNTOLD).await?;
    let sessions = count(&mut database, "SELECT count(*) FROM sessions").await?;
    database.close().await?;
    Ok(format!(
        "{sessions} sessions; server: {} files, {} threads, {} MiB; {untold} machines whose end no timeline tells",
        now.files,
        now.threads,
        now.resident_kib / 1024
    ))
}

/// Waits until no machine is left: neither its directory nor a process.
async fn settled(place: &Place) -> anyhow::Result<()> {
    let server = place.server.as_raw_nonzero().get();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let run = fs::read_dir(place.state_dir.join("run"))?;
        let machines: Vec<_> = run.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        let all = Leaks::of(&place.dir).processes();
        let processes: Vec<_> = all.into_iter().filter(|found| found.pid != server).collect();
        if machines.is_empty() && processes.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            bail!("left of machines: {machines:?}, processes: {processes:#?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// In the state directory lie the database, the key, the lock, the command line's socket, receipts and the log.
fn files(state_dir: &Path) -> anyhow::Result<()> {
    let strange: Vec<PathBuf> =
        Leaks::of(state_dir).files("").into_iter().filter(|path| !known(state_dir, path)).collect();
    ensure!(strange.is_empty(), "files are left: {strange:?}");
    Ok(())
}

fn known(state_dir: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(state_dir) else { return false };
    let words: Vec<&str> = below.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["receipts" | "run" | "log"] => path.is_dir(),
        ["log", _] => path.is_file(),
        ["receipts", name] => name.starts_with("mac_") && name.ends_with(".json"),
        [name] => {
            ["vault.key", "lock", "anteroom.sock"].contains(&name)
                || name.starts_with("anteroom.db")
                || name.contains("log")
        }
        _ => false,
    }
}

/// What the server holds may be high for a moment; it must come down.
async fn within(place: &Place) -> anyhow::Result<processes::Holds> {
    let (until, young) = (Instant::now() + WAIT_MAX, place.young);
    loop {
        let now = processes::holds(place.server).context("the server is gone")?;
        let fits = now.files <= young.files + FILES_MORE_MAX
            && now.threads <= young.threads + THREADS_MORE_MAX
            && now.resident_kib <= young.resident_kib + RESIDENT_MORE_KIB_MAX;
        if fits {
            return Ok(now);
        }
        ensure!(Instant::now() < until, "the server holds more than it should: {now:?}, when it was young {young:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The world's database, for reading.
async fn open(state_dir: &Path) -> anyhow::Result<SqliteConnection> {
    let options =
        SqliteConnectOptions::new().filename(state_dir.join("anteroom.db")).read_only(true).busy_timeout(WAIT_MAX);
    Ok(options.connect().await?)
}

async fn count(database: &mut SqliteConnection, question: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query(question).fetch_one(database).await?.try_get(0)?)
}

#[cfg(test)]
#[test]
fn a_file_that_does_not_belong_into_the_state_directory_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["anteroom.db", "anteroom.db-wal", "vault.key"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("run")).unwrap();
    files(dir.path()).unwrap();
    fs::create_dir(dir.path().join("run/mac_left")).unwrap();
    assert!(files(dir.path()).unwrap_err().to_string().contains("mac_left"));
}
