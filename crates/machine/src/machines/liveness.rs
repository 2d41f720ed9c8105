//! Liveness of a machine: every byte received on its agent's channel counts as activity, and HTTP/2 pings make an idle agent
//! send some.
//!
//! ```text
//!  stream ─▶ MonitoredStream (counts reads) ─▶ HTTP/2        IdleTimer samples the count several times per ping
//! ```
//!
//! Idle time is the sum of sampling intervals, not a difference of clock readings: while this process does not run (stopped
//! server, paused host) no samples are taken, so the gap does not count.

use anteroom_wire::time::to_millis;
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

/// Samples per ping interval.
const SAMPLES_PER_PING: u32 = 4;

/// Interval between two checks of an [`ActiveTimeDeadline`].
const DEADLINE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Counts reads from one machine, over all its connections. Cheap to clone; clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct ActivityCounter(Arc<AtomicU64>);

impl ActivityCounter {
    fn record(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that records every read of at least one byte.
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
            self.activity.record();
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

/// The part of `passed` that counts: at most twice the requested `interval`, because more means that this process did not run.
fn active_time(interval: Duration, passed: Duration) -> Duration {
    passed.min(interval * 2)
}

/// A deadline that counts only time in which this process was running.
#[derive(Debug)]
pub(super) struct ActiveTimeDeadline {
    left: Duration,
    checked: Instant,
}

impl ActiveTimeDeadline {
    /// Starts now.
    pub(super) fn new(limit: Duration) -> Self {
        Self { left: limit, checked: Instant::now() }
    }

    /// When to call [`ActiveTimeDeadline::is_expired`] next.
    pub(super) fn next_check(&self) -> Instant {
        self.checked + self.left.min(DEADLINE_CHECK_INTERVAL)
    }

    /// Counts the time since the last check; returns whether the deadline has expired.
    pub(super) fn is_expired(&mut self) -> bool {
        let now = Instant::now();
        let passed = active_time(DEADLINE_CHECK_INTERVAL, now.saturating_duration_since(self.checked));
        self.checked = now;
        self.left = self.left.saturating_sub(passed);
        self.left.is_zero()
    }
}

/// Measures the time without activity.
#[derive(Debug)]
pub(super) struct IdleTimer {
    activity: ActivityCounter,
    count: u64,
    idle: Duration,
    sample_interval: Duration,
    sampled: Instant,
}

impl IdleTimer {
    /// Starts now with zero idle time.
    pub(super) fn new(activity: ActivityCounter, ping_every: Duration) -> Self {
        let count = activity.count();
        let sample_interval = (ping_every / SAMPLES_PER_PING).max(Duration::from_millis(1));
        Self { activity, count, idle: Duration::ZERO, sample_interval, sampled: Instant::now() }
    }

    /// Sets the idle time to zero.
    pub(super) fn reset(&mut self) {
        self.count = self.activity.count();
        self.idle = Duration::ZERO;
        self.sampled = Instant::now();
    }

    /// Waits for the next sample and takes it. If the future is dropped early, the next sample counts the time.
    async fn sample(&mut self) {
        tokio::time::sleep_until(self.sampled + self.sample_interval).await;
        let now = Instant::now();
        let passed = active_time(self.sample_interval, now.saturating_duration_since(self.sampled));
        self.sampled = now;
        let count = self.activity.count();
        if count == self.count {
            self.idle += passed;
        } else {
            self.count = count;
            self.idle = Duration::ZERO;
        }
    }

    /// Waits until the idle time reaches `limit`; returns the idle time, milliseconds.
    pub(super) async fn wait_idle(&mut self, limit: Duration) -> u64 {
        while self.idle < limit {
            self.sample().await;
        }
        to_millis(self.idle)
    }

    /// Waits for activity.
    ///
    /// # Errors
    /// The idle time, milliseconds, when it reaches `limit`.
    pub(super) async fn wait_active(&mut self, limit: Duration) -> Result<(), u64> {
        while self.idle < limit {
            self.sample().await;
            if self.idle.is_zero() {
                return Ok(());
            }
        }
        Err(self.wait_idle(limit).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PING: Duration = Duration::from_millis(2_000);
    const LIMIT: Duration = Duration::from_millis(6_000);

    #[tokio::test(start_paused = true)]
    async fn idle_time_ends_when_a_byte_is_received() {
        let (mut machine, ours) = duplex(64);
        let activity = ActivityCounter::default();
        let mut ours = MonitoredStream::new(ours, activity.clone());
        let mut idle = IdleTimer::new(activity, PING);
        assert_eq!(idle.wait_idle(LIMIT).await, 6_000);
        machine.write_all(b"x").await.unwrap();
        ours.read_u8().await.unwrap();
        idle.wait_active(Duration::MAX).await.unwrap();
        let began = Instant::now();
        idle.wait_idle(LIMIT).await;
        assert!(began.elapsed() >= LIMIT, "it starts from zero: {:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn written_bytes_do_not_count_as_activity() {
        let (_machine, ours) = duplex(64);
        let activity = ActivityCounter::default();
        let mut ours = MonitoredStream::new(ours, activity.clone());
        let mut idle = IdleTimer::new(activity, PING);
        ours.write_all(b"ping").await.unwrap();
        assert_eq!(idle.wait_idle(LIMIT).await, 6_000);
    }

    #[tokio::test(start_paused = true)]
    async fn active_time_deadline_expires_in_time_and_ignores_gaps() {
        let (began, mut deadline) = (Instant::now(), ActiveTimeDeadline::new(LIMIT));
        let mut checks = 0;
        loop {
            tokio::time::sleep_until(deadline.next_check()).await;
            if deadline.is_expired() {
                break;
            }
            checks += 1;
            if checks == 5 {
                tokio::time::advance(Duration::from_secs(3_600)).await;
            }
        }
        let ran = began.elapsed() - Duration::from_secs(3_600);
        assert!(ran >= LIMIT - DEADLINE_CHECK_INTERVAL * 2 && ran <= LIMIT + DEADLINE_CHECK_INTERVAL, "{ran:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_server_did_not_run_does_not_count_as_idle() {
        let mut idle = IdleTimer::new(ActivityCounter::default(), PING);
        // Like a stopped server process: the clock advanced and no sample was taken.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let began = Instant::now();
        idle.wait_idle(LIMIT).await;
        assert!(began.elapsed() >= LIMIT - PING, "{:?}", began.elapsed());
    }
}
