//! Whether a machine gives signs of life: every byte that its agent's channel brings is one, and the pings of HTTP/2 see
//! to it that there are some.
//!
//! ```text
//!  stream ─▶ MonitoredStream (counts) ─▶ HTTP/2        IdleTimer looks at the count every fraction of a ping
//! ```
//!
//! IdleTimer is counted in looks, not read off a clock: when this process itself did not run (a stopped server, a paused
//! host), the looks were not made, and the machine is not blamed for the gap.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Looks within the time between two pings.
const LOOKS_PER_PING: u32 = 4;

/// Between two looks at a [`ActiveTimeDeadline`].
const PATIENCE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was connection_events of one machine, over all its connections. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ActivityCounter(Arc<AtomicU64>);

impl ActivityCounter {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose every arriving byte is a sign of life.
#[derive(Debug)]
pub(super) struct MonitoredStream<S> {
    stream: S,
    activity: ActivityCounter,
}

impl<S> MonitoredStream<S> {
    pub(super) fn new(stream: S, activity: ActivityCounter) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.beat();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How much of the time that went by counts: not more than twice what was commands for, since what is beyond was a gap in
/// which nobody looked.
pub(super) fn counted(commands: Duration, passed: Duration) -> Duration {
    passed.min(commands * 2)
}

/// A time limit of which only that part counts in which this process ran.
#[derive(Debug)]
pub(super) struct ActiveTimeDeadline {
    left: Duration,
    looked: Instant,
}

impl ActiveTimeDeadline {
    /// Begins now.
    pub(super) fn new(limit: Duration) -> Self {
        Self { left: limit, looked: Instant::now() }
    }

    /// When to look next.
    pub(super) fn next_check(&self) -> Instant {
        self.looked + self.left.min(PATIENCE_LOOK_EVERY)
    }

    /// Looks; whether the time is over.
    pub(super) fn is_expired(&mut self) -> bool {
        let now = Instant::now();
        let passed = counted(PATIENCE_LOOK_EVERY, now.saturating_duration_since(self.looked));
        self.looked = now;
        self.left = self.left.saturating_sub(passed);
        self.left.is_zero()
    }
}

/// How long nothing was connection_events.
#[derive(Debug)]
pub(super) struct IdleTimer {
    activity: ActivityCounter,
    beats: u64,
    since: Duration,
    look_every: Duration,
    looked: Instant,
}

impl IdleTimer {
    /// Begins now, with nothing yet held against the machine.
    pub(super) fn new(activity: ActivityCounter, ping_every: Duration) -> Self {
        let beats = activity.beats();
        let look_every = (ping_every / LOOKS_PER_PING).max(Duration::from_millis(1));
        Self { activity, beats, since: Duration::ZERO, look_every, looked: Instant::now() }
    }

    /// From now on: whatever was before does not count.
    pub(super) fn begin(&mut self) {
        self.beats = self.activity.beats();
        self.since = Duration::ZERO;
        self.looked = Instant::now();
    }

    /// One look later. Dropped before its end, the time counts at the next look.
    async fn look(&mut self) {
        tokio::time::sleep_until(self.looked + self.look_every).await;
        let now = Instant::now();
        let passed = counted(self.look_every, now.saturating_duration_since(self.looked));
        self.looked = now;
        let beats = self.activity.beats();
        if beats == self.beats {
            self.since += passed;
        } else {
            self.beats = beats;
            self.since = Duration::ZERO;
        }
    }

    /// Returns when nothing was connection_events for `limit`, with cause long it was, milliseconds.
    pub(super) async fn lasts(&mut self, limit: Duration) -> u64 {
        while self.since < limit {
            self.look().await;
        }
        u64::try_from(self.since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns when something is connection_events again.
    ///
    /// # Errors
    /// Nothing was connection_events for `limit`: cause long it was, milliseconds.
    pub(super) async fn ends_within(&mut self, limit: Duration) -> Result<(), u64> {
        while self.since < limit {
            self.look().await;
            if self.since.is_zero() {
                return Ok(());
            }
        }
        Err(self.lasts(limit).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PING: Duration = Duration::from_millis(2_000);
    const LIMIT: Duration = Duration::from_millis(6_000);

    #[tokio::test(start_paused = true)]
    async fn silence_lasts_until_a_byte_comes() {
        let (mut machine, ours) = duplex(64);
        let activity = ActivityCounter::default();
        let mut ours = MonitoredStream::new(ours, activity.clone());
        let mut silence = IdleTimer::new(activity, PING);
        assert_eq!(silence.lasts(LIMIT).await, 6_000);
        machine.write_all(b"x").await.unwrap();
        ours.read_u8().await.unwrap();
        silence.ends_within(Duration::MAX).await.unwrap();
        let began = Instant::now();
        silence.lasts(LIMIT).await;
        assert!(began.elapsed() >= LIMIT, "it begins again: {:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_no_sign_of_life() {
        let (_machine, ours) = duplex(64);
        let activity = ActivityCounter::default();
        let mut ours = MonitoredStream::new(ours, activity.clone());
        let mut silence = IdleTimer::new(activity, PING);
        ours.write_all(b"ping").await.unwrap();
        assert_eq!(silence.lasts(LIMIT).await, 6_000);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_in_time_and_not_because_of_a_gap() {
        let (began, mut deadline) = (Instant::now(), ActiveTimeDeadline::new(LIMIT));
        let mut looks = 0;
        loop {
            tokio::time::sleep_until(deadline.next_check()).await;
            if deadline.is_expired() {
                break;
            }
            looks += 1;
            if looks == 5 {
                tokio::time::advance(Duration::from_secs(3_600)).await;
            }
        }
        let ran = began.elapsed() - Duration::from_secs(3_600);
        assert!(ran >= LIMIT - PATIENCE_LOOK_EVERY * 2 && ran <= LIMIT + PATIENCE_LOOK_EVERY, "{ran:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_in_which_nobody_looked_is_not_held_against_the_machine() {
        let mut silence = IdleTimer::new(ActivityCounter::default(), PING);
        // As when the server's process was stopped: the clock has removed on, no look was made.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let began = Instant::now();
        silence.lasts(LIMIT).await;
        assert!(began.elapsed() >= LIMIT - PING, "{:?}", began.elapsed());
    }
}
