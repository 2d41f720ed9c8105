//! A WebSocket on one side, a byte stream of a machine on the other.
//!
//! ```text
//!  viewer ══ WebSocket ══▶ [ connecting ] ── stream open ──▶ [ carrying ] ──▶ closed with a code and a reason
//!                             │   ▲                             │   │
//!                             │   └ the viewer's bytes wait     │   └ the stream ended: a short wait for the session's
//!                             │     here, with a bound          │     own words, else 4502
//!                             └ refused: its code and reason    └ Ending: its code and reason, at once
//! ```
//!
//! - The phases are apart: while the stream is being opened the viewer's bytes are kept and keep-alive already runs.
//! - One keep-alive for all sockets: the server pings; any frame from the viewer is a sign of life, so that browsers
//!   (which answer pings below the page) and other clients need nothing of their own.
//! - Bounded: at most one chunk is on its way to the viewer and one to the machine. A slow viewer is read-ahead by the
//!   two sockets' own buffers and slows only its own stream.
//! - Who reads slowly is not taken for dead: room that comes free on a full connection is a sign of life, since the pings wait
//!   behind what was not read yet. Who takes nothing at all is let go after `stall_ms_max`.
//! - A viewer that only looks has its side of RFB read, and what acts is left out ([`watch`](mod@watch)).
//! - axum does not wait for upgraded sockets at shutdown, so a tunnel holds a token of a task tracker from the handshake
//!   to the last frame.

mod activity;
mod carry;
mod ending;
mod reach;
#[cfg(test)]
mod tests;
mod watch;

pub use activity::Activity;
pub use carry::Tunnel;
pub use ending::Ending;
pub use reach::{Spoken, until_it_speaks};
pub use watch::Watch;

use anteroom_wire::{Problem, ProblemBody};
use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    response::Response,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The only subprotocol there is; tickets travel beside it and are never echoed.
pub const SUBPROTOCOL: &str = "binary";

/// The most bytes of a close frame's reason (RFC 6455 §5.5: 125 for the frame, two of them the code).
const REASON_BYTES_MAX: usize = 123;

/// Every limit of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelSettings {
    /// Time between two pings, milliseconds.
    pub ping_every_ms: u64,
    /// How long a viewer may show no sign of life after a ping, milliseconds.
    pub pong_ms_max: u64,
    /// How long a viewer may take to accept one chunk, milliseconds.
    pub stall_ms_max: u64,
    /// How much is read from the machine at once, bytes; one WebSocket message carries at most this.
    pub chunk_bytes: usize,
    /// The largest message a viewer may send, bytes.
    pub message_bytes_max: usize,
    /// What a viewer may send while the stream is being opened, bytes.
    pub early_bytes_max: usize,
    /// How long opening the stream may take, milliseconds.
    pub connect_ms_max: u64,
    /// When the stream ends by itself: how long to wait for the session to say why, milliseconds.
    pub verdict_ms_max: u64,
    /// How long the closing handshake may take, milliseconds.
    pub close_ms_max: u64,
}

impl Default for TunnelSettings {
    fn default() -> Self {
        Self {
            ping_every_ms: 15_000,
            pong_ms_max: 30_000,
            stall_ms_max: 60_000,
            chunk_bytes: 64 * 1024,
            message_bytes_max: 1024 * 1024,
            early_bytes_max: 64 * 1024,
            connect_ms_max: 60_000,
            verdict_ms_max: 1_500,
            close_ms_max: 2_000,
        }
    }
}

/// What a tunnel did, for the log and the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelReport {
    /// Bytes from the viewer that reached the machine.
    pub bytes_up: u64,
    /// Bytes from the machine that were handed to the viewer's socket.
    pub bytes_down: u64,
    /// From accepted to closed, milliseconds.
    pub duration_ms: u64,
    /// Whether the stream to the machine was open.
    pub connected: bool,
    /// How it ended.
    pub end: TunnelEnd,
}

/// How a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The viewer closed, with this code if it gave one.
    ViewerClosed(Option<u16>),
    /// The viewer's connection broke without a close.
    ViewerLost,
    /// The viewer showed no sign of life, or accepted nothing, for too long.
    ViewerSilent,
    /// The viewer sent something that this tunnel does not take.
    ViewerWrong(ProblemBody),
    /// The stream could not be opened.
    Refused(ProblemBody),
    /// The machine's side ended and nobody said why in time; the text is the last error, if there was one.
    StreamEnded(Option<String>),
    /// The session, or the server, ended it.
    Ended(Problem),
}

/// Answers a WebSocket handshake and runs `serve` with the socket. Echoes [`SUBPROTOCOL`] if it was offered and nothing
/// else. `tasks` counts the connection from now until `serve` is done.
pub fn accept<F, Fut>(upgrade: WebSocketUpgrade, settings: &TunnelSettings, tasks: &TaskTracker, serve: F) -> Response
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let token = tasks.token();
    upgrade
        .protocols([SUBPROTOCOL])
        // Beyond the limit itself, so that a viewer over it can be told so before it is cut off.
        .max_message_size(4 * settings.message_bytes_max)
        .max_frame_size(4 * settings.message_bytes_max)
        // Upwards there are keys and pointers: the default of 128 KiB for each connection would be waste.
        .read_buffer_size(8 * 1024)
        // Every chunk is flushed before the next is read, so this bound is never met by honest use.
        .write_buffer_size(0)
        .max_write_buffer_size(4 * settings.chunk_bytes.max(64 * 1024))
        .on_upgrade(move |socket| async move {
            serve(socket).await;
            drop(token);
        })
}

/// Accepts a browser's handshake only to close it with the refusal's own code, since scripts cannot see the status of a
/// refused one.
pub fn refuse(upgrade: WebSocketUpgrade, settings: &TunnelSettings, tasks: &TaskTracker, problem: Problem) -> Response {
    let close_max = Duration::from_millis(settings.close_ms_max);
    accept(upgrade, settings, tasks, move |socket| async move {
        let (mut sink, mut source) = socket.split();
        let goodbye = farewell(&mut sink, &mut source, Some(close_frame(problem)));
        // A viewer that does not take the frame in time is dropped.
        let _ = tokio::time::timeout(close_max, goodbye).await;
    })
}

/// The close frame of a problem: its code and "code: sentence".
pub fn close_frame(problem: Problem) -> CloseFrame {
    frame(problem.close_code(), &format!("{}: {}", problem.code(), problem.sentence()))
}

fn frame(code: u16, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame { code, reason: reason[..end].into() }
}

/// Sends the close frame, if there is one to send, and reads until the viewer has answered it: closing a socket that
/// holds unread bytes resets the connection, and the frame would be lost on the way.
async fn farewell(
    sink: &mut (impl Sink<Message> + Unpin),
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    frame: Option<CloseFrame>,
) {
    let sent = match frame {
        Some(frame) => sink.send(Message::Close(Some(frame))).await.is_ok(),
        // The answer to the viewer's own close waits in the socket.
        None => sink.flush().await.is_ok(),
    };
    if sent {
        while let Some(Ok(_)) = source.next().await {}
    }
}
