//! Reads records from the files, with or without a server.

use crate::{
    record::{Line, Record},
    segments::{Segment, list_segments},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// A line of the trail is shorter than this, bytes.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1_024;

/// Which records are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only records with a greater number.
    pub after: u64,
    /// Only records with a smaller number.
    pub before: Option<u64>,
    /// Only those of this caller: its id or its name.
    pub actor: Option<String>,
    /// Only this action, or with a trailing `.` all actions that begin so.
    pub action: Option<String>,
    /// Only those about this session.
    pub session: Option<String>,
    /// Only those that this caller caused or that are about it: its id.
    pub caller: Option<String>,
    /// Only those of this peer.
    pub peer: Option<String>,
    /// Only records that were written at this time or later, milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only records that were written before, milliseconds since 1970.
    pub until_ms: Option<u64>,
}

/// The end from which records are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Oldest,
    /// The newest first.
    Newest,
}

impl Filter {
    /// Whether the record is wanted.
    pub fn matches(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let is_action = |wanted: &String| match wanted.strip_suffix('.') {
            Some(_) => record.action.starts_with(wanted.as_str()),
            None => record.action == *wanted,
        };
        record.seq > self.after
            && self.before.is_none_or(|before| record.seq < before)
            && self.since_ms.is_none_or(|since| record.at_ms >= since)
            && self.until_ms.is_none_or(|until| record.at_ms < until)
            && self.action.as_ref().is_none_or(is_action)
            && (is(&self.actor, &record.actor.id) || is(&self.actor, &record.actor.name))
            && is(&self.session, &record.subject.session)
            && (is(&self.caller, &record.actor.id) || is(&self.caller, &record.subject.caller))
            && is(&self.peer, &record.peer)
    }
}

/// Calls `each` for the wanted records, the oldest first, until it returns false. Lines that are no records are skipped: `verify` reports
/// them.
///
/// # Errors
/// A file cannot be read.
pub fn for_each_record(dir: &Path, filter: &Filter, mut each: impl FnMut(Record) -> bool) -> io::Result<()> {
    let segments = list_segments(dir)?;
    for segment in segments.get(first_wanted(&segments, filter.after)?..).unwrap_or_default() {
        for record in open_lines(&segment.path)? {
            let record = record?;
            if filter.before.is_some_and(|before| record.seq >= before) {
                return Ok(());
            }
            if filter.matches(&record) && !each(record) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// At most `limit` wanted records.
///
/// # Errors
/// A file cannot be read.
pub fn list_records(dir: &Path, filter: &Filter, order: Order, limit: usize) -> io::Result<Vec<Record>> {
    let mut found = Vec::new();
    match order {
        Order::Oldest => for_each_record(dir, filter, |record| {
            found.push(record);
            found.len() < limit
        })?,
        Order::Newest => {
            for segment in list_segments(dir)?.iter().rev() {
                let records = open_lines(&segment.path)?.collect::<io::Result<Vec<_>>>()?;
                found.extend(
                    records.into_iter().rev().filter(|record| filter.matches(record)).take(limit - found.len()),
                );
                if found.len() >= limit {
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// The index of the first file that may have a record after `after`.
fn first_wanted(segments: &[Segment], after: u64) -> io::Result<usize> {
    for (index, segment) in segments.iter().enumerate().rev() {
        let first = open_lines(&segment.path)?.next().transpose()?;
        if first.is_some_and(|first| first.seq <= after.saturating_add(1)) {
            return Ok(index);
        }
    }
    Ok(0)
}

fn open_lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>> + use<>> {
    let mut reader = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || {
        loop {
            match read_line(&mut reader) {
                Ok(Some(line)) => {
                    if let Some(line) = Line::parse(&line) {
                        return Some(Ok(line.record));
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }))
}

/// The next complete line without its end; longer lines are cut. `None`: there is no further complete line.
pub(crate) fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    (&mut *reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// The last record of a file.
pub(crate) fn last_record(path: &Path) -> io::Result<Option<Record>> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(LINE_BYTES_MAX)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(end.rsplit(|byte| *byte == b'\n').find_map(Line::parse).map(|line| line.record))
}

/// Follows a trail while it is written.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    filter: Filter,
    /// The number of the file that is read, and the bytes of it that were read.
    position: Option<(u64, u64)>,
}

impl Follower {
    /// Follows the trail from the record after `filter.after`.
    pub fn new(dir: &Path, filter: Filter) -> Self {
        Self { dir: dir.to_owned(), filter, position: None }
    }

    /// Calls `each` for the wanted records since the last call, until it returns false. Returns whether it did not.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read_new(&mut self, mut each: impl FnMut(Record) -> bool) -> io::Result<bool> {
        let segments = list_segments(&self.dir)?;
        let first = match self.position {
            Some((number, _)) => segments.iter().position(|segment| segment.number >= number).unwrap_or(segments.len()),
            None => first_wanted(&segments, self.filter.after)?,
        };
        for segment in segments.get(first..).unwrap_or_default() {
            let mut offset =
                self.position.filter(|(number, _)| *number == segment.number).map_or(0, |(_, offset)| offset);
            let mut file = File::open(&segment.path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut reader = BufReader::new(file);
            while let Some(line) = read_line(&mut reader)? {
                offset += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
                self.position = Some((segment.number, offset));
                let Some(line) = Line::parse(&line) else { continue };
                if self.filter.matches(&line.record) && !each(line.record) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
