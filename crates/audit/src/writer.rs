//! Writes records to the files. One thread owns the writer; see [`Trail`](crate::Trail).

mod files;
mod prune;
mod recover;

use crate::{
    Action, Entry, Head, MacKeys,
    head::HEAD_FILE,
    record::Record,
    segments::{self, file_name},
};
use files::OpenSegment;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Records are on the disk after this time at the latest, milliseconds.
pub(crate) const FLUSH_MS_MAX: u64 = 1_000;

/// Where and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailSettings {
    /// The directory of the files; created with mode 0700.
    pub dir: PathBuf,
    /// A second place for the head, on another file system.
    pub head_copy: Option<PathBuf>,
    /// Size at which a new file is begun, bytes.
    pub segment_bytes_max: u64,
    /// Size of all files together, bytes; the oldest are removed.
    pub bytes_max: u64,
    /// Age of the newest record of a file at which the file is removed, seconds.
    pub age_s_max: u64,
}

/// Why the trail cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes it.
    #[error("another process writes the audit trail in {}; stop it", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("the audit trail in {} cannot be read or written; its owner must be the user that runs the server", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("the thread that writes the audit trail cannot be started")]
    Thread {
        /// The cause.
        source: io::Error,
    },
}

/// Records that could not be written.
#[derive(Debug, Default)]
struct Gap {
    /// By action.
    lost: BTreeMap<&'static str, u64>,
    from_ms: u64,
}

/// The open trail.
pub(crate) struct Writer {
    settings: TrailSettings,
    keys: MacKeys,
    head: Head,
    segment: OpenSegment,
    gap: Gap,
    /// When the oldest bytes were written that are not flushed to the disk.
    unflushed_since_ms: Option<u64>,
    /// The lock that no second writer gets.
    _lock: File,
}

impl Writer {
    /// The newest record.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The keys.
    pub(crate) fn keys(&self) -> &MacKeys {
        &self.keys
    }

    /// Replaces the keys, after a key was added to or removed from the key ring.
    pub(crate) fn set_keys(&mut self, keys: MacKeys) {
        self.keys = keys;
    }

    /// Appends records in this order, all or none. `durable`: returns after they are on the disk.
    ///
    /// # Errors
    /// Nothing was written, or it may not be on the disk. Records that were not written are counted for a later [`Action::TrailGap`].
    pub(crate) fn append(&mut self, entries: Vec<Entry>, durable: bool) -> io::Result<()> {
        let actions: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.count)).collect();
        let written = self.append_or_fail(entries);
        if let Err(error) = written {
            if self.gap.lost.is_empty() {
                self.gap.from_ms = now_ms();
            }
            for (action, count) in actions {
                *self.gap.lost.entry(action).or_default() += count;
            }
            return Err(error);
        }
        if durable { self.flush() } else { Ok(()) }
    }

    fn append_or_fail(&mut self, mut entries: Vec<Entry>) -> io::Result<()> {
        if let Some(damage) = self.segment.damage() {
            let entry = Entry::new(Action::TrailDamaged)
                .with_detail("segment", file_name(self.segment.number))
                .with_detail("found", damage);
            self.begin_segment()?;
            entries.insert(0, entry);
        } else if self.segment.bytes >= self.settings.segment_bytes_max {
            self.begin_segment()?;
        }
        if self.segment.bytes == 0 {
            let entry = Entry::new(Action::TrailSegment).with_detail("segment", self.segment.number);
            entries.insert(0, entry);
        }
        if !self.gap.lost.is_empty() {
            entries.insert(0, self.gap_entry());
        }
        let mut head = self.head.clone();
        let mut text = String::new();
        let at_ms = now_ms();
        for entry in entries {
            let (line, hash) =
                Record::encode(entry, (head.seq + 1, at_ms, &head.hash), &self.keys).map_err(io::Error::other)?;
            head = Head { seq: head.seq + 1, hash };
            text.push_str(&line);
        }
        self.segment.append(text.as_bytes())?;
        self.unflushed_since_ms.get_or_insert(at_ms);
        self.gap = Gap::default();
        self.head = head;
        // The records are written. A head that cannot be written now is written with the next record.
        self.head.write(&self.settings.dir.join(HEAD_FILE), &self.keys).unwrap_or_else(|error| {
            tracing::warn!(outcome = "audit_head_not_written", %error, "head of the audit trail not written");
        });
        Ok(())
    }

    fn gap_entry(&self) -> Entry {
        let entry = Entry::new(Action::TrailGap).with_detail("from_ms", self.gap.from_ms);
        let total: u64 = self.gap.lost.values().sum();
        let lost: Vec<_> = self.gap.lost.iter().map(|(action, count)| format!("{action} {count}")).collect();
        entry.with_detail("lost", total).with_detail("lost_by_action", lost.join(", "))
    }

    /// Begins the next file. The current one is on the disk before.
    fn begin_segment(&mut self) -> io::Result<()> {
        self.segment.sync()?;
        self.segment = OpenSegment::create(&self.settings.dir, self.segment.number + 1)?;
        Ok(())
    }

    /// Writes to the disk what was appended since the last flush, and the copy of the head.
    ///
    /// # Errors
    /// The disk does not accept it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.unflushed_since_ms.is_some() {
            self.segment.sync()?;
            self.unflushed_since_ms = None;
            self.write_head_copy();
        }
        Ok(())
    }

    /// Whether records wait for a flush for too long.
    pub(crate) fn is_flush_due(&self, now_ms: u64) -> bool {
        self.unflushed_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= FLUSH_MS_MAX)
    }

    fn write_head_copy(&self) {
        let Some(copy) = &self.settings.head_copy else { return };
        if let Err(error) = self.head.write(copy, &self.keys) {
            tracing::warn!(outcome = "audit_head_not_copied", path = %copy.display(), %error, "copy of the audit trail's head not written");
        }
    }

    /// The files, the oldest first.
    fn segments(&self) -> io::Result<Vec<segments::Segment>> {
        segments::list_segments(&self.settings.dir)
    }
}

/// The current time, milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Makes created, renamed and removed names durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file that may be missing.
fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
