//! Entries that wait for the database, one line for each session: bounded, in order, each with its own time.
//!
//! Pure bookkeeping; [`super`] has the task that writes. The entry being written is out of the line, so what is
//! dropped when the line is full is always the oldest that waits, and the gap is told in its place.

use crate::clock::UnixMs;
use anteroom_store::NewEvent;
use anteroom_wire::SessionId;
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::sync::watch;

/// The kind of the entry that stands for those that were dropped.
pub const LOST: &str = "entries_lost";

/// What waits, for every session of this server.
#[derive(Debug)]
pub struct TimelineBuffer {
    waiting_max: usize,
    lines: Mutex<HashMap<SessionId, Line>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Line {
    waiting: VecDeque<(u64, NewEvent)>,
    /// What was dropped before the first that waits.
    lost: Option<Lost>,
    /// The number of the last entry that came.
    last: u64,
    /// The number up to which all are written or lost; its sender goes with the line.
    settled: watch::Sender<u64>,
}

#[derive(Debug)]
struct Lost {
    count: u64,
    from_ms: UnixMs,
    until_ms: UnixMs,
    last: u64,
}

/// Tells when an entry is written or given up.
#[derive(Debug)]
pub struct Settled(Option<(u64, watch::Receiver<u64>)>);

impl Settled {
    /// Waits for it.
    pub async fn wait(self) {
        if let Some((number, mut settled)) = self.0 {
            // A line that is gone has nothing waiting in it.
            let _ = settled.wait_for(|done| *done >= number).await;
        }
    }
}

impl TimelineBuffer {
    /// At most `waiting_max` entries of one session wait.
    pub fn new(waiting_max: usize) -> Self {
        Self { waiting_max: waiting_max.max(1), lines: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Puts an entry at the end of its session's line. `true`: the line was empty, and somebody must write it.
    pub(super) fn put(&self, session: &SessionId, event: NewEvent) -> (Settled, bool) {
        let mut lines = self.lines();
        let is_new = !lines.contains_key(session);
        let line = lines.entry(session.clone()).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            lost: None,
            last: 0,
            settled: watch::channel(0).0,
        });
        if line.waiting.len() >= self.waiting_max
            && let Some((number, dropped)) = line.waiting.pop_front()
        {
            let lost = line.lost.get_or_insert(Lost {
                count: 0,
                from_ms: dropped.at_ms,
                until_ms: dropped.at_ms,
                last: number,
            });
            (lost.count, lost.until_ms, lost.last) = (lost.count + 1, dropped.at_ms, number);
        }
        line.last += 1;
        line.waiting.push_back((line.last, event));
        (Settled(Some((line.last, line.settled.subscribe()))), is_new)
    }

    /// Takes the next entry to write. `None`: nothing waits, and the line is gone.
    pub(super) fn next(&self, session: &SessionId) -> Option<(u64, NewEvent)> {
        let mut lines = self.lines();
        let line = lines.get_mut(session)?;
        if let Some(lost) = line.lost.take() {
            let sentence = format!("{} entries were lost: the database could not be written.", lost.count);
            let data = json!({ "count": lost.count, "until": crate::clock::rfc3339(lost.until_ms) });
            return Some((lost.last, NewEvent::new(lost.from_ms, LOST, sentence).with(data)));
        }
        let next = line.waiting.pop_front();
        if next.is_none() {
            lines.remove(session);
        }
        next
    }

    /// The entry of this number was written, or given up.
    pub(super) fn settle(&self, session: &SessionId, number: u64) {
        if let Some(line) = self.lines().get(session) {
            line.settled.send_replace(number);
        }
    }

    /// When everything that waits now for this session is written.
    pub(super) fn settled(&self, session: &SessionId) -> Settled {
        Settled(self.lines().get(session).map(|line| (line.last, line.settled.subscribe())))
    }

    /// Forgets a session's line; how many entries waited in it.
    pub(super) fn forget(&self, session: &SessionId) -> usize {
        self.lines().remove(session).map_or(0, |line| line.waiting.len())
    }

    /// Nothing more is written; how many entries still waited.
    pub fn close(&self) -> usize {
        self.closed.store(true, Relaxed);
        self.lines().drain().map(|(_, line)| line.waiting.len() + 1).sum()
    }

    /// Whether [`Self::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SessionId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn session() -> SessionId {
        SessionId::from_parts(1, [1; 10])
    }

    fn put(buffer: &TimelineBuffer, at_ms: UnixMs) -> (Settled, bool) {
        buffer.put(&session(), NewEvent::new(at_ms, "kind", at_ms.to_string()))
    }

    #[test]
    fn entries_leave_in_order_with_their_own_times() {
        let buffer = TimelineBuffer::new(10);
        let first: Vec<bool> = (1..=3).map(|at| put(&buffer, at).1).collect();
        assert_eq!(first, [true, false, false], "one writer");
        let times: Vec<_> = std::iter::from_fn(|| buffer.next(&session())).map(|(_, event)| event.at_ms).collect();
        assert_eq!(times, [1, 2, 3]);
        assert!(put(&buffer, 4).1, "a line that was written to its end begins anew");
    }

    #[test]
    fn a_full_line_loses_its_oldest_and_says_how_many_in_their_place() {
        let buffer = TimelineBuffer::new(2);
        put(&buffer, 1);
        let (number, being_written) = buffer.next(&session()).unwrap();
        for at in 2..=5 {
            put(&buffer, at);
        }
        assert_eq!(being_written.at_ms, 1);
        buffer.settle(&session(), number);
        let left: Vec<_> = std::iter::from_fn(|| buffer.next(&session())).collect();
        let kinds: Vec<_> = left.iter().map(|(number, event)| (*number, event.kind.as_str(), event.at_ms)).collect();
        assert_eq!(kinds, [(3, LOST, 2), (4, "kind", 4), (5, "kind", 5)]);
        assert_eq!(left[0].1.sentence, "2 entries were lost: the database could not be written.");
    }

    #[test]
    fn whoever_waits_hears_when_all_before_is_settled_and_when_the_line_is_gone() {
        let buffer = TimelineBuffer::new(10);
        let (one, _) = put(&buffer, 1);
        let (two, _) = put(&buffer, 2);
        let all = buffer.settled(&session());
        let (number, _) = buffer.next(&session()).unwrap();
        buffer.settle(&session(), number);
        assert!(one.wait().now_or_never().is_some());
        assert!(all.wait().now_or_never().is_none(), "the second waits");
        assert_eq!(buffer.forget(&session()), 1);
        assert!(two.wait().now_or_never().is_some());
        assert!(buffer.settled(&session()).wait().now_or_never().is_some(), "nothing waits");
    }
}
