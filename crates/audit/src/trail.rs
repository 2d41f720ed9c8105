//! The trail of a running server: one thread writes, so that no request waits for a file system except for the acknowledgement of the
//! records it caused.

use crate::{
    Entry, Head, MacKeys,
    verify::{self, KnownHead, Verification},
    writer::{FLUSH_MS_MAX, OpenError, TrailSettings, Writer, now_ms},
};
use parking_lot::Mutex;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::oneshot;

/// Jobs that wait for the thread; further ones are refused.
pub const JOBS_MAX: usize = 4_096;
/// Records that are written together.
const BATCH_MAX: usize = 256;
/// The longest wait for a job before the thread looks what must be flushed.
const WAIT_MAX: Duration = Duration::from_millis(FLUSH_MS_MAX);
/// Time between two looks for files that are over the limits of the retention, milliseconds.
const PRUNE_EVERY_MS: u64 = 60_000;

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The file system does not accept it.
    #[error("the audit trail cannot be written")]
    Io(#[source] Arc<io::Error>),
    /// Too many records wait, or the trail is closed.
    #[error("the audit trail does not accept records now")]
    Unavailable,
}

/// What the trail has counted since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that were written.
    pub records: u64,
    /// Records that could not be written.
    pub failures: u64,
}

#[derive(Default)]
struct Shared {
    records: AtomicU64,
    failures: AtomicU64,
    head: Mutex<Head>,
    keys: Mutex<MacKeys>,
}

struct Append {
    entry: Entry,
    durable: bool,
    done: oneshot::Sender<Result<(), AppendError>>,
}

enum Job {
    Append(Box<Append>),
    SetKeys(MacKeys),
    Close,
}

/// The open trail. Dropping it without [`Trail::close`] leaves the last second of records to the operating system, as a crash does.
pub struct Trail {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dir: PathBuf,
    verifying: tokio::sync::Mutex<()>,
}

impl Trail {
    /// Opens the trail for appending and starts its thread. `known_heads` are heads from elsewhere, such as the database.
    ///
    /// # Errors
    /// Another process writes it, or its files cannot be used.
    pub fn open(settings: TrailSettings, keys: MacKeys, known_heads: &[Head]) -> Result<Self, OpenError> {
        let dir = settings.dir.clone();
        let writer = Writer::open(settings, keys, known_heads)?;
        let shared = Arc::new(Shared {
            head: Mutex::new(writer.head().clone()),
            keys: Mutex::new(writer.keys().clone()),
            ..Shared::default()
        });
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let worker = Worker { writer, shared: Arc::clone(&shared), pruned_at_ms: 0 };
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || worker.run(&receiver));
        let thread = thread.map_err(|source| OpenError::Thread { source })?;
        Ok(Self { jobs, shared, thread: Mutex::new(Some(thread)), dir, verifying: tokio::sync::Mutex::default() })
    }

    /// Appends a record. Returns when it is written; with `durable` when it is on the disk.
    ///
    /// # Errors
    /// It is not written. It is counted, and the next record that can be written reports the gap.
    pub async fn append(&self, entry: Entry, durable: bool) -> Result<(), AppendError> {
        let (done, written) = oneshot::channel();
        let job = Job::Append(Box::new(Append { entry, durable, done }));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.jobs.try_send(job) {
            self.shared.failures.fetch_add(1, Relaxed);
            return Err(AppendError::Unavailable);
        }
        written.await.unwrap_or(Err(AppendError::Unavailable))
    }

    /// The newest record.
    pub fn head(&self) -> Head {
        self.shared.head.lock().clone()
    }

    /// The newest record, as it is stored in other places.
    pub fn signed_head(&self) -> (u64, String) {
        let head = self.head();
        (head.seq, head.encode(&self.shared.keys.lock()))
    }

    /// Uses other keys from now on, after a key was added to or removed from the key ring.
    pub fn set_keys(&self, keys: MacKeys) {
        *self.shared.keys.lock() = keys.clone();
        // The thread receives it before any later record.
        let _ = self.jobs.send(Job::SetKeys(keys));
    }

    /// Verifies the files; records can be appended at the same time. `known` are heads from elsewhere. One verification runs at a time.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn verify(&self, mut known: Vec<KnownHead>) -> io::Result<Verification> {
        let _one = self.verifying.lock().await;
        known.push(KnownHead::of_server(self.head()));
        let (dir, keys) = (self.dir.clone(), self.shared.keys.lock().clone());
        tokio::task::spawn_blocking(move || verify::verify(&dir, &keys, &known)).await.map_err(io::Error::other)?
    }

    /// The directory of the files.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters { records: self.shared.records.load(Relaxed), failures: self.shared.failures.load(Relaxed) }
    }

    /// Writes what waits, flushes it to the disk and ends the thread. Blocks until then.
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    writer: Writer,
    shared: Arc<Shared>,
    pruned_at_ms: u64,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let mut job = match jobs.recv_timeout(WAIT_MAX) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = Vec::new();
            while let Some(Job::Append(append)) = job {
                batch.push(*append);
                job = if batch.len() < BATCH_MAX { jobs.try_recv().ok() } else { None };
            }
            self.append(batch);
            match job {
                Some(Job::Close) => break,
                Some(Job::SetKeys(keys)) => self.writer.set_keys(keys),
                // The loop above took all of them.
                Some(Job::Append(_)) | None => {}
            }
            self.maintain();
        }
        self.flush();
    }

    fn append(&mut self, batch: Vec<Append>) {
        if batch.is_empty() {
            return;
        }
        let before = self.writer.head().seq;
        let durable = batch.iter().any(|append| append.durable);
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let (entries, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Append { entry, done, .. }| (entry, done)).unzip();
        let written = self.writer.append(entries, durable).map_err(Arc::new);
        let head = self.writer.head().clone();
        self.shared.records.fetch_add(head.seq - before, Relaxed);
        *self.shared.head.lock() = head;
        if let Err(error) = &written {
            self.shared.failures.fetch_add(count, Relaxed);
            tracing::error!(outcome = "audit_not_written", count, %error, "audit records not written");
        }
        for done in waiting {
            // The request may have ended.
            let _ = done.send(written.as_ref().copied().map_err(|error| AppendError::Io(Arc::clone(error))));
        }
    }

    /// Flushes and prunes when it is time.
    fn maintain(&mut self) {
        let now = now_ms();
        if self.writer.is_flush_due(now) {
            self.flush();
        }
        if now.saturating_sub(self.pruned_at_ms) >= PRUNE_EVERY_MS {
            self.pruned_at_ms = now;
            if let Err(error) = self.writer.prune() {
                tracing::warn!(outcome = "audit_not_pruned", %error, "old files of the audit trail not removed");
            }
            *self.shared.head.lock() = self.writer.head().clone();
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.writer.flush() {
            tracing::error!(outcome = "audit_not_flushed", %error, "audit records not on the disk");
        }
    }
}
