//! Kills the server at a database write that a test selects, and records all of its writes.
//!
//! The test writes a [`CrashPoint`] into the server's directory. At the n-th matching write the server removes that file and sends
//! itself SIGKILL, so that no destructor runs.

use crate::TestServer;
use anteroom_store::{ObservedWrite, WriteObserver, WriteOutcome};
use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

const CRASH_POINT_FILE: &str = "crash.json";
const WRITES_FILE: &str = "writes.log";

/// Whether the server is killed before or after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashTiming {
    /// Nothing is written yet.
    Before,
    /// The write is committed; its caller has not received the result.
    After,
}

/// The write at which the server is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashPoint {
    /// Before or after the write.
    pub timing: CrashTiming,
    /// The write, as [`ObservedWrite`] prints it: `transition machine_ready`.
    pub write_kind: String,
    /// Which of the matching writes, counted from 1 since this crash point was set in this server process.
    pub nth: u32,
}

/// Observes a server's writes, records them and kills the server at the crash point.
#[derive(Debug)]
pub struct CrashInjector {
    dir: PathBuf,
    record: Mutex<File>,
    seen: Mutex<u32>,
}

impl CrashInjector {
    /// Watches for a crash point in the server's directory `dir`.
    ///
    /// # Errors
    /// The record of writes cannot be opened.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let record = File::options().create(true).append(true).open(dir.join(WRITES_FILE))?;
        Ok(Self { dir: dir.to_owned(), record: Mutex::new(record), seen: Mutex::new(0) })
    }

    fn crash_if_selected(&self, timing: CrashTiming, write: &ObservedWrite) {
        let file = self.dir.join(CRASH_POINT_FILE);
        let Some(crash) = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<CrashPoint>(&text).ok()) else {
            return;
        };
        if crash.timing != timing || crash.write_kind != write.to_string() {
            return;
        }
        let mut seen = self.seen.lock();
        *seen += 1;
        // The file is removed first, so that the next server process does not crash.
        if *seen >= crash.nth && fs::remove_file(&file).is_ok() {
            // SIGKILL to this process cannot fail.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl WriteObserver for CrashInjector {
    fn before(&self, write: &ObservedWrite) {
        self.crash_if_selected(CrashTiming::Before, write);
    }

    fn after(&self, write: &ObservedWrite, outcome: WriteOutcome, _: Duration) {
        // The test that reads the record fails when an entry is missing.
        let _ = writeln!(self.record.lock(), "{}\t{write}", outcome.as_str());
        if outcome == WriteOutcome::Written {
            self.crash_if_selected(CrashTiming::After, write);
        }
    }
}

impl TestServer {
    /// Makes the server kill itself at a write.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn crash_at(&self, crash: &CrashPoint) -> anyhow::Result<()> {
        let fresh = self.path().join("crash.new");
        fs::write(&fresh, serde_json::to_vec(crash)?)?;
        Ok(fs::rename(fresh, self.path().join(CRASH_POINT_FILE))?)
    }

    /// Every write that the server has committed so far, as [`ObservedWrite`] prints it, in order.
    pub fn committed_writes(&self) -> Vec<String> {
        let record = fs::read_to_string(self.path().join(WRITES_FILE)).unwrap_or_default();
        record.lines().filter_map(|line| line.strip_prefix("written\t")).map(str::to_owned).collect()
    }
}
