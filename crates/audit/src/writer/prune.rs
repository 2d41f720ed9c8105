//! Retention: the oldest files are removed as a whole.

use super::{Writer, now_ms, remove_if_present, sync_dir};
use crate::{
    Action, Entry,
    read::last_record,
    segments::{Segment, file_name},
};
use std::{io, time::SystemTime};

impl Writer {
    /// Removes the oldest files that are over the limits of size or age, never the current one. The record [`Action::TrailPrune`] is on the
    /// disk before a file is removed.
    ///
    /// # Errors
    /// The record cannot be written, or a file cannot be read or removed.
    pub(crate) fn prune(&mut self) -> io::Result<()> {
        let segments = self.segments()?;
        let over = self.over_limits(&segments);
        let Some(newest) = over.last() else { return Ok(()) };
        let last = last_record(&newest.path)?.ok_or_else(|| {
            io::Error::other(format!("{} has no record at its end; it is kept", newest.path.display()))
        })?;
        let entry = Entry::new(Action::TrailPrune)
            .with_detail("last_segment", file_name(newest.number))
            .with_detail("last_seq", last.seq)
            .with_detail("last_hash", &last.hash);
        self.append(vec![entry], true)?;
        for segment in over {
            remove_if_present(&segment.path)?;
        }
        sync_dir(&self.settings.dir)
    }

    fn over_limits<'a>(&self, segments: &'a [Segment]) -> &'a [Segment] {
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let oldest_ms = now_ms().saturating_sub(self.settings.age_s_max.saturating_mul(1_000));
        let mut count = 0;
        for segment in segments.iter().filter(|segment| segment.number < self.segment.number) {
            let is_too_old = unix_ms(segment.modified_at) < oldest_ms;
            if !is_too_old && bytes <= self.settings.bytes_max {
                break;
            }
            bytes -= segment.bytes;
            count += 1;
        }
        segments.get(..count).unwrap_or_default()
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
