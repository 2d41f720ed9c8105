//! A server that is killed at a write of its database that a test names, and a record of all its writes.
//!
//! The test arms it with a file in the world's directory; at the n-th such write the server removes the file and kills itself as
//! `kill -9` would: no destructor runs, nobody is told.

use crate::TestServer;
use anteroom_store::{Write, WriteObserver, WriteOutcome};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

const ARMED: &str = "crash.json";
const WRITES: &str = "writes.log";

/// On which side of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashTiming {
    /// Nothing is written yet.
    Before,
    /// It is committed, and whoever asked for it has not heard.
    After,
}

/// When the server shall be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashPoint {
    /// On which side.
    pub moment: CrashTiming,
    /// The write, as [`Write`] prints it: `transition machine_ready`.
    pub write: String,
    /// The how manieth in this server's life while it is armed, from 1.
    pub nth: u32,
}

/// Observes a server's writes.
#[derive(Debug)]
pub struct CrashInjector {
    dir: PathBuf,
    record: Mutex<File>,
    seen: Mutex<u32>,
}

impl CrashInjector {
    /// For the world in `dir`.
    ///
    /// # Errors
    /// The record cannot be opened.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let record = File::options().create(true).append(true).open(dir.join(WRITES))?;
        Ok(Self { dir: dir.to_owned(), record: Mutex::new(record), seen: Mutex::new(0) })
    }

    fn look(&self, moment: CrashTiming, write: &Write) {
        let file = self.dir.join(ARMED);
        let Some(crash) = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<CrashPoint>(&text).ok()) else {
            return;
        };
        if crash.moment != moment || crash.write != write.to_string() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen += 1;
        // Once: the next server is to live.
        if *seen >= crash.nth && fs::remove_file(&file).is_ok() {
            // This is the end; there is nobody to give an error to.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl WriteObserver for CrashInjector {
    fn before(&self, write: &Write) {
        self.look(CrashTiming::Before, write);
    }

    fn after(&self, write: &Write, outcome: WriteOutcome, _: Duration) {
        // A record that cannot be written is missed by the test that reads it.
        let _ = writeln!(self.record.lock().unwrap_or_else(PoisonError::into_inner), "{}\t{write}", outcome.as_str());
        if outcome == WriteOutcome::Written {
            self.look(CrashTiming::After, write);
        }
    }
}

impl TestServer {
    /// Has the server killed at a write from now on.
    ///
    /// # Errors
    /// The order cannot be written.
    pub fn arm(&self, crash: &CrashPoint) -> anyhow::Result<()> {
        let fresh = self.path().join("crash.new");
        fs::write(&fresh, serde_json::to_vec(crash)?)?;
        Ok(fs::rename(fresh, self.path().join(ARMED))?)
    }

    /// Every write that was committed so far, as [`Write`] prints it, in order.
    pub fn writes(&self) -> Vec<String> {
        let record = fs::read_to_string(self.path().join(WRITES)).unwrap_or_default();
        record.lines().filter_map(|line| line.strip_prefix("written\t")).map(str::to_owned).collect()
    }
}
