//! Opens a trail as the last writer left it: closed, killed within a line, or without power.

use super::{OpenError, Writer, files::OpenSegment, remove_if_present, sync_dir};
use crate::{
    Action, Entry, Head, MacKeys, TrailSettings,
    head::{HEAD_FILE, ReadHead},
    record::Line,
    segments::{Segment, list_segments},
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// The end of the newest file with records.
struct End {
    head: Head,
    /// Bytes up to the end of the last complete record.
    bytes: u64,
    /// Bytes after it.
    unfinished_bytes: u64,
}

impl Writer {
    /// Opens the trail for appending. `known_heads` are heads from elsewhere, such as the database. What was found incomplete is the first
    /// record: [`Action::TrailRecovered`].
    pub(crate) fn open(settings: TrailSettings, keys: MacKeys, known_heads: &[Head]) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::Io { dir: settings.dir.clone(), source };
        let lock = lock(&settings.dir).map_err(failed)?;
        let Some(lock) = lock else { return Err(OpenError::InUse { dir: settings.dir }) };
        let (segment, mut head, unfinished_bytes) = open_newest(&settings.dir).map_err(failed)?;
        let mut found = Entry::new(Action::TrailRecovered);
        if unfinished_bytes > 0 {
            found = found.with_detail("unfinished_bytes", unfinished_bytes);
        }
        let stored = Head::read(&settings.dir.join(HEAD_FILE), &keys).map_err(failed)?;
        let stored = match stored {
            ReadHead::Found(head) => Some(head),
            ReadHead::Missing if head.seq > 0 => {
                found = found.with_detail("head_file", "missing");
                None
            }
            ReadHead::Missing => None,
            ReadHead::Forged => {
                found = found.with_detail("head_file", "not authentic");
                None
            }
        };
        let newest = stored.into_iter().chain(known_heads.iter().cloned()).max_by_key(|head| head.seq);
        if let Some(newest) = newest.filter(|newest| newest.seq > head.seq) {
            // Numbers are never used twice, and records that are found again fit into the chain.
            found = found.with_detail("missing_from", head.seq + 1).with_detail("missing_to", newest.seq);
            head = newest;
        }
        let mut writer =
            Self { settings, keys, head, segment, gap: super::Gap::default(), unflushed_since_ms: None, _lock: lock };
        if !found.details.is_empty() {
            tracing::warn!(outcome = "audit_recovered", details = ?found.details, "audit trail was found incomplete");
            let dir = writer.settings.dir.clone();
            writer.append(vec![found], true).map_err(|source| OpenError::Io { dir, source })?;
        }
        Ok(writer)
    }
}

/// Locks the directory for this writer. `None`: another one has the lock.
fn lock(dir: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The newest file, its last record, and the bytes of an unfinished line that were removed from it.
fn open_newest(dir: &Path) -> io::Result<(OpenSegment, Head, u64)> {
    let mut segments = list_segments(dir)?;
    let Some(newest) = segments.pop() else { return Ok((OpenSegment::create(dir, 1)?, Head::default(), 0)) };
    match find_end(&newest)? {
        Some(End { head, bytes, unfinished_bytes }) => {
            Ok((OpenSegment::open(&newest.path, newest.number, bytes)?, head, unfinished_bytes))
        }
        // The writer ended between creating the file and writing to it.
        None => {
            let head = match segments.pop() {
                Some(before) => find_end(&before)?.map(|end| end.head).unwrap_or_default(),
                None => Head::default(),
            };
            remove_if_present(&newest.path)?;
            sync_dir(dir)?;
            Ok((OpenSegment::create(dir, newest.number)?, head, newest.bytes))
        }
    }
}

/// The last complete record of a file. `None`: it has none.
fn find_end(segment: &Segment) -> io::Result<Option<End>> {
    let content = fs::read(&segment.path)?;
    let mut end = content.len();
    while let Some(newline) = content.get(..end).and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n')) {
        let begin = content.get(..newline).and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n'));
        let line = content.get(begin.map_or(0, |begin| begin + 1)..newline).unwrap_or_default();
        if let Some(line) = Line::parse(line) {
            let (bytes, all) = (newline + 1, content.len());
            return Ok(Some(End {
                head: Head { seq: line.record.seq, hash: line.record.hash },
                bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                unfinished_bytes: u64::try_from(all - bytes).unwrap_or(0),
            }));
        }
        end = newline;
    }
    Ok(None)
}
