//! What ends a command early: a signal, or an output that is not read or cannot be written. A session that the command has started
//! is cancelled then.
//!
//! ```text
//!  signals ready ─▶ POST (a start whose answer is due is waited for) ─▶ follow ─▶ end
//!                          └────────── stop ──────────┴─▶ cancel the session ─▶ exit code: 130 INT, 143 TERM, 129 HUP, 141 closed pipe
//! ```

use super::{
    client::{ApiClient, ClientError},
    output, print_error_line,
};
use anteroom_wire::{
    SessionId,
    api::{SessionView, StartResponse},
};
use http::Method;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::time::Duration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, timeout},
};

/// Time for the answer to a start that was under way, and for a cancellation, seconds.
const CANCEL_S_MAX: u64 = 15;
/// Time between two looks at whether standard output still has a reader, milliseconds.
const READER_CHECK_MS: u64 = 200;

/// What ends a command early.
#[derive(Debug)]
pub(super) struct Stops {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Stops {
    /// Catches the signals from now on, except those that were ignored when this program was started (`nohup`, a shell's `&`).
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn new() -> std::io::Result<Self> {
        let ignored = ignored_signals();
        let catch = |kind: SignalKind| {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the first and returns the exit code that a shell uses for it.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            () = received(&mut self.interrupt) => 130,
            () = received(&mut self.terminate) => 143,
            () = received(&mut self.hang_up) => 129,
            code = output_ends() => code,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The signals that this program was started to ignore, as a set of bits; none if the kernel does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default()
}

/// Waits until standard output has failed or lost its reader; returns the exit code.
async fn output_ends() -> u8 {
    let mut checks = interval(Duration::from_millis(READER_CHECK_MS));
    loop {
        checks.tick().await;
        if let Some(failure) = output::failure() {
            return failure.exit_code();
        }
        if has_no_reader() {
            return output::CLOSED_PIPE;
        }
    }
}

/// Whether the pipe of standard output has no reader any more. A file or a terminal always has one.
fn has_no_reader() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0) && polled[0].revents().contains(PollFlags::ERR)
}

/// How a command with a session has ended.
#[derive(Debug)]
pub(super) enum Run<T> {
    /// By itself.
    Finished(T),
    /// Early; the session is cancelled. The exit code.
    Stopped(u8),
}

/// Starts a session and runs `follow` with it. If that fails, or this program is to stop, the session is cancelled.
///
/// # Errors
/// The start is refused; those of `follow`.
pub(super) async fn run_session<B: Serialize, T>(
    client: &ApiClient,
    path: &str,
    request: &B,
    follow: impl AsyncFnOnce(&StartResponse) -> anyhow::Result<T>,
) -> anyhow::Result<Run<T>> {
    let mut stops = Stops::new()?;
    let mut start = std::pin::pin!(client.call::<B, StartResponse>(Method::POST, path, Some(request)));
    let started = tokio::select! {
        started = &mut start => started?,
        code = stops.next() => {
            // The server may have started it already.
            if let Ok(Ok(started)) = timeout(Duration::from_secs(CANCEL_S_MAX), start).await {
                cancel(client, &started.session.id).await;
            }
            return Ok(Run::Stopped(code));
        }
    };
    tokio::select! {
        followed = follow(&started) => match followed {
            Ok(end) => Ok(Run::Finished(end)),
            Err(error) => {
                cancel(client, &started.session.id).await;
                Err(error)
            }
        },
        code = stops.next() => {
            cancel(client, &started.session.id).await;
            Ok(Run::Stopped(code))
        }
    }
}

/// Cancels a session; one that has ended stays as it is. Says so if that is not possible.
async fn cancel(client: &ApiClient, id: &SessionId) {
    let path = format!("/api/auth/session/{id}/cancel");
    let cancelled = client.call::<(), SessionView>(Method::POST, &path, None);
    let failed = match timeout(Duration::from_secs(CANCEL_S_MAX), cancelled).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error,
        Err(_) => ClientError::InvalidResponse(format!("no answer within {CANCEL_S_MAX} s")),
    };
    print_error_line(format_args!(
        "anteroom: the session may still run ({failed}); end it with: anteroom sessions cancel {id}"
    ));
}
