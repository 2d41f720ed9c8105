//! Timeline entries that wait for the database, one bounded buffer for each session, in order, each with the time at which it was
//! appended.
//!
//! Pure bookkeeping; [`super`] has the task that writes. The entry being written is not in the buffer. A full buffer drops its
//! oldest entry, and one entry with the number of lost entries replaces it.

use crate::unix_time::UnixMs;
use anteroom_store::NewTimelineEntry;
use anteroom_wire::{SessionId, TimelineKind};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::watch;

/// Entries of one session that are buffered while the database cannot be written. A session has some tens of entries.
pub const BUFFERED_ENTRIES_MAX: usize = 500;

/// The buffers of all sessions of this server.
#[derive(Debug)]
pub struct TimelineBuffer {
    waiting_max: usize,
    sessions: Mutex<HashMap<SessionId, SessionBuffer>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct SessionBuffer {
    waiting: VecDeque<(u64, NewTimelineEntry)>,
    /// The entries dropped before the first one in the buffer.
    lost: Option<LostEntries>,
    /// The number of the last appended entry.
    last: u64,
    /// The number up to which all entries are written or lost. The channel closes when the buffer is removed.
    written: watch::Sender<u64>,
}

#[derive(Debug)]
struct LostEntries {
    count: u64,
    from_ms: UnixMs,
    until_ms: UnixMs,
    last: u64,
}

/// Waits until an entry is written or lost.
#[derive(Debug)]
pub struct WriteHandle(Option<(u64, watch::Receiver<u64>)>);

impl WriteHandle {
    /// A handle that waits for nothing.
    pub fn written() -> Self {
        Self(None)
    }

    /// Waits until the entry is written or lost.
    pub async fn wait(self) {
        if let Some((number, mut written)) = self.0 {
            // The channel closes when the buffer is removed, and then nothing waits in it.
            let _ = written.wait_for(|done| *done >= number).await;
        }
    }
}

impl TimelineBuffer {
    /// At most `waiting_max` entries of one session are buffered.
    pub fn new(waiting_max: usize) -> Self {
        Self { waiting_max: waiting_max.max(1), sessions: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Appends an entry to its session's buffer. `true`: the buffer is new, and the caller must start its writer.
    pub(super) fn append(&self, session: &SessionId, entry: NewTimelineEntry) -> (WriteHandle, bool) {
        let mut sessions = self.sessions.lock();
        let is_first = !sessions.contains_key(session);
        let buffer = sessions.entry(session.clone()).or_insert_with(|| SessionBuffer {
            waiting: VecDeque::new(),
            lost: None,
            last: 0,
            written: watch::channel(0).0,
        });
        if buffer.waiting.len() >= self.waiting_max
            && let Some((number, dropped)) = buffer.waiting.pop_front()
        {
            let lost = buffer.lost.get_or_insert(LostEntries {
                count: 0,
                from_ms: dropped.at_ms,
                until_ms: dropped.at_ms,
                last: number,
            });
            (lost.count, lost.until_ms, lost.last) = (lost.count + 1, dropped.at_ms, number);
        }
        buffer.last += 1;
        buffer.waiting.push_back((buffer.last, entry));
        (WriteHandle(Some((buffer.last, buffer.written.subscribe()))), is_first)
    }

    /// Removes and returns the next entry to write. `None`: the buffer is empty and removed.
    pub(super) fn next_entry(&self, session: &SessionId) -> Option<(u64, NewTimelineEntry)> {
        let mut sessions = self.sessions.lock();
        let buffer = sessions.get_mut(session)?;
        if let Some(lost) = buffer.lost.take() {
            let sentence = format!("{} entries were lost: the database could not be written.", lost.count);
            let data = json!({ "count": lost.count, "until": crate::unix_time::format_rfc3339(lost.until_ms) });
            return Some((
                lost.last,
                NewTimelineEntry::new(lost.from_ms, TimelineKind::EntriesLost, sentence).with_data(data),
            ));
        }
        let next = buffer.waiting.pop_front();
        if next.is_none() {
            sessions.remove(session);
        }
        next
    }

    /// Marks the entry of this number as written or lost.
    pub(super) fn mark_written(&self, session: &SessionId, number: u64) {
        if let Some(buffer) = self.sessions.lock().get(session) {
            buffer.written.send_replace(number);
        }
    }

    /// A handle that waits until all entries buffered now for this session are written.
    pub(super) fn all_written_handle(&self, session: &SessionId) -> WriteHandle {
        WriteHandle(self.sessions.lock().get(session).map(|buffer| (buffer.last, buffer.written.subscribe())))
    }

    /// Removes a session's buffer; returns how many entries it had.
    pub(super) fn discard(&self, session: &SessionId) -> usize {
        self.sessions.lock().remove(session).map_or(0, |buffer| buffer.waiting.len())
    }

    /// Stops all writing; returns how many entries are lost.
    pub fn close(&self) -> usize {
        self.closed.store(true, Relaxed);
        self.sessions.lock().drain().map(|(_, buffer)| buffer.waiting.len() + 1).sum()
    }

    /// Whether [`Self::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn session() -> SessionId {
        SessionId::from_parts(1, [1; 10])
    }

    fn append(buffer: &TimelineBuffer, at_ms: UnixMs) -> (WriteHandle, bool) {
        buffer.append(&session(), NewTimelineEntry::new(at_ms, TimelineKind::CliStarted, at_ms.to_string()))
    }

    #[test]
    fn entries_are_written_in_order_with_their_times() {
        let buffer = TimelineBuffer::new(10);
        let first: Vec<bool> = (1..=3).map(|at| append(&buffer, at).1).collect();
        assert_eq!(first, [true, false, false], "one writer");
        let times: Vec<_> =
            std::iter::from_fn(|| buffer.next_entry(&session())).map(|(_, entry)| entry.at_ms).collect();
        assert_eq!(times, [1, 2, 3]);
        assert!(append(&buffer, 4).1, "a buffer that was written to its end starts again");
    }

    #[test]
    fn a_full_buffer_drops_its_oldest_entries_and_records_how_many() {
        let buffer = TimelineBuffer::new(2);
        append(&buffer, 1);
        let (number, being_written) = buffer.next_entry(&session()).unwrap();
        for at in 2..=5 {
            append(&buffer, at);
        }
        assert_eq!(being_written.at_ms, 1);
        buffer.mark_written(&session(), number);
        let left: Vec<_> = std::iter::from_fn(|| buffer.next_entry(&session())).collect();
        let kinds: Vec<_> = left.iter().map(|(number, entry)| (*number, entry.kind, entry.at_ms)).collect();
        assert_eq!(
            kinds,
            [(3, TimelineKind::EntriesLost, 2), (4, TimelineKind::CliStarted, 4), (5, TimelineKind::CliStarted, 5)]
        );
        assert_eq!(left[0].1.sentence, "2 entries were lost: the database could not be written.");
    }

    #[test]
    fn a_write_handle_completes_when_its_entry_is_written_or_the_buffer_is_discarded() {
        let buffer = TimelineBuffer::new(10);
        let (one, _) = append(&buffer, 1);
        let (two, _) = append(&buffer, 2);
        let all = buffer.all_written_handle(&session());
        let (number, _) = buffer.next_entry(&session()).unwrap();
        buffer.mark_written(&session(), number);
        assert!(one.wait().now_or_never().is_some());
        assert!(all.wait().now_or_never().is_none(), "the second waits");
        assert_eq!(buffer.discard(&session()), 1);
        assert!(two.wait().now_or_never().is_some());
        assert!(buffer.all_written_handle(&session()).wait().now_or_never().is_some(), "nothing waits");
    }
}
