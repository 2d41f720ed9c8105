//! Proxies a viewer's WebSocket to a byte stream of a machine.
//!
//! ```text
//!  viewer ══ WebSocket ══▶ [ connecting ] ── stream open ──▶ [ copying ] ──▶ closed with a code and a reason
//!                             │   ▲                             │   │
//!                             │   └ the viewer's bytes are      │   └ the stream ended: waits up to close_reason_wait_ms
//!                             │     buffered, with a limit      │     for the session's reason, else 4502
//!                             └ failed: its code and reason     └ CloseSignal: its code and reason, at once
//! ```
//!
//! - While the stream is being opened, the viewer's bytes are buffered and keep-alive runs.
//! - Keep-alive: the server sends pings. Every frame from the viewer counts as activity, so browsers (which answer pings below
//!   the page) and other clients need no code for it.
//! - Memory is bounded: at most one chunk is in flight to the viewer and one to the machine. A slow viewer fills the buffers of
//!   the two sockets and slows only its own stream.
//! - A viewer sends at a limited rate: over it, it is not read. RFB messages have a rate for each kind, and those of which only the
//!   newest counts are merged ([`desktop_input`]).
//! - A slow reader does not time out: progress on a full connection counts as activity, because the pings queue behind
//!   unread data. A viewer that accepts nothing is disconnected after `stall_ms_max`.
//! - For a view-only viewer, RFB input messages are removed ([`view_only`](mod@view_only)).
//! - axum does not wait for upgraded sockets at shutdown, so a tunnel holds a token of a task tracker from the handshake
//!   to the last frame.

mod activity;
mod close_signal;
mod connect_with_backoff;
pub mod desktop_input;
mod exec;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod proxy;
mod security_offer;
#[cfg(test)]
mod tests;
mod view_only;
mod viewer_error;
pub mod viewer_rate;

pub use activity::SessionActivity;
pub use close_signal::{CloseCause, CloseSignal};
pub use connect_with_backoff::{PrefixedStream, connect_with_backoff};
pub use exec::{ExecReport, ExecTunnel, accept_exec_websocket};
pub use proxy::Tunnel;
pub use view_only::{ENCODINGS_MAX, ViewOnlyFilter};
pub use viewer_error::ViewerError;

use anteroom_wire::{Problem, ProblemBody};
use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    response::Response,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The only supported subprotocol. Tickets are offered in the same header and are never echoed.
pub const WEBSOCKET_SUBPROTOCOL: &str = "binary";

/// The most bytes of a close frame's reason (RFC 6455 §5.5: 125 for the frame, two of them the code).
const REASON_BYTES_MAX: usize = 123;

/// Bytes of a message of a rejected viewer, who need not have a ticket: it sends at most a close frame.
const REJECTED_MESSAGE_BYTES_MAX: usize = 1_024;

/// Limits of a tunnel. They are constants for the server; tests change them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelSettings {
    /// Time between two pings, milliseconds. Reverse proxies close idle connections, mostly after 60 s, some after 10 s.
    pub ping_every_ms: u64,
    /// A viewer without activity for this long after a ping is disconnected, milliseconds. Three pings may be lost.
    pub pong_ms_max: u64,
    /// A viewer that does not accept a chunk within this time is disconnected, milliseconds. A mobile connection may pause for tens
    /// of seconds.
    pub stall_ms_max: u64,
    /// Bytes read from the machine at once; also the largest WebSocket message sent to a viewer. Bounds the memory of a slow viewer.
    pub chunk_bytes: usize,
    /// The largest message a viewer may send, bytes. RFB messages of a viewer are small, except for pasted text.
    pub message_bytes_max: usize,
    /// Bytes from the viewer that are buffered while the stream is being opened. RFB viewers wait for the server's greeting.
    pub early_bytes_max: usize,
    /// Timeout for opening the stream, milliseconds. It also ends a longer `sessions.socket_wait_ms_max`; pages
    /// connect again.
    pub connect_ms_max: u64,
    /// After the stream ended: how long to wait for the session's reason before the WebSocket is closed with 4502,
    /// milliseconds. A session usually ends within a second after its machine.
    pub close_reason_wait_ms: u64,
    /// Timeout for the close handshake, milliseconds: one round trip on a slow connection.
    pub close_handshake_ms_max: u64,
}

impl Default for TunnelSettings {
    fn default() -> Self {
        Self {
            ping_every_ms: 8_000,
            pong_ms_max: 30_000,
            stall_ms_max: 60_000,
            chunk_bytes: 64 * 1024,
            message_bytes_max: 1024 * 1024,
            early_bytes_max: 64 * 1024,
            connect_ms_max: 60_000,
            close_reason_wait_ms: 1_500,
            close_handshake_ms_max: 2_000,
        }
    }
}

/// Statistics and end of a tunnel, for the log and the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelReport {
    /// Bytes from the viewer that were written to the machine.
    pub bytes_up: u64,
    /// Bytes from the machine that were written to the viewer's socket.
    pub bytes_down: u64,
    /// From accepted to closed, milliseconds.
    pub duration_ms: u64,
    /// Whether the stream to the machine was opened.
    pub was_connected: bool,
    /// How the tunnel ended.
    pub end: TunnelEnd,
}

/// How a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The viewer sent a close frame, with this code if it had one.
    ViewerClosed(Option<u16>),
    /// The viewer's connection broke without a close frame.
    ViewerLost,
    /// The viewer did not answer a ping or did not accept data in time.
    ViewerTimeout,
    /// The viewer sent an invalid or too large message.
    ViewerProtocolError(ProblemBody),
    /// The stream could not be opened.
    ConnectFailed(ProblemBody),
    /// The machine's side ended and the session published no reason in time; the text is the last error, if there was one.
    StreamEnded(Option<String>),
    /// The close signal closed the tunnel.
    Closed(CloseCause),
}

/// Answers a WebSocket handshake and runs `serve` with the socket. Echoes [`WEBSOCKET_SUBPROTOCOL`] if it was offered and nothing
/// else. `tasks` counts the connection from now until `serve` is done.
pub fn accept_websocket<F, Fut>(
    upgrade: WebSocketUpgrade,
    settings: &TunnelSettings,
    tasks: &TaskTracker,
    serve: F,
) -> Response
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let token = tasks.token();
    upgrade
        .protocols([WEBSOCKET_SUBPROTOCOL])
        // Larger than the limit, so that a viewer whose message is too large receives a close frame with that reason.
        .max_message_size(4 * settings.message_bytes_max)
        .max_frame_size(4 * settings.message_bytes_max)
        // Viewers send only key and pointer messages: the default of 128 KiB per connection is not needed.
        .read_buffer_size(8 * 1024)
        // Every chunk is flushed before the next is read, so this limit is not reached in normal operation.
        .write_buffer_size(0)
        .max_write_buffer_size(4 * settings.chunk_bytes.max(64 * 1024))
        .on_upgrade(move |socket| async move {
            serve(socket).await;
            drop(token);
        })
}

/// Rejects a browser's connection: accepts the handshake and closes the WebSocket with the problem's close code, because
/// scripts cannot read the HTTP status of a failed handshake.
pub fn reject_websocket(
    upgrade: WebSocketUpgrade,
    settings: &TunnelSettings,
    tasks: &TaskTracker,
    problem: Problem,
) -> Response {
    let reason = format!("{}: {}", problem.code(), problem.sentence());
    reject_websocket_because(upgrade, settings, tasks, problem.close_code(), &reason)
}

/// The same, with this close code and reason, of which at most 123 bytes are sent.
pub fn reject_websocket_because(
    upgrade: WebSocketUpgrade,
    settings: &TunnelSettings,
    tasks: &TaskTracker,
    code: u16,
    reason: &str,
) -> Response {
    let close_max = Duration::from_millis(settings.close_handshake_ms_max);
    let settings = TunnelSettings { message_bytes_max: REJECTED_MESSAGE_BYTES_MAX / 4, ..settings.clone() };
    let frame = frame(code, reason);
    accept_websocket(upgrade, &settings, tasks, move |socket| async move {
        let (mut sink, mut source) = socket.split();
        let handshake = close_handshake(&mut sink, &mut source, Some(frame));
        // A viewer that does not answer the close frame in time is disconnected.
        let _ = tokio::time::timeout(close_max, handshake).await;
    })
}

/// The close frame of a problem: its close code and, as the reason, "code: sentence".
pub fn problem_close_frame(problem: Problem) -> CloseFrame {
    frame(problem.close_code(), &format!("{}: {}", problem.code(), problem.sentence()))
}

fn frame(code: u16, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame { code, reason: reason[..end].into() }
}

/// Sends the close frame, if there is one, and reads until the viewer has answered it. Closing a socket with unread bytes
/// resets the connection, and the viewer would not receive the frame.
async fn close_handshake(
    sink: &mut (impl Sink<Message> + Unpin),
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    frame: Option<CloseFrame>,
) {
    let sent = match frame {
        Some(frame) => sink.send(Message::Close(Some(frame))).await.is_ok(),
        // The answer to the viewer's close frame is queued in the socket.
        None => sink.flush().await.is_ok(),
    };
    if sent {
        while let Some(Ok(_)) = source.next().await {}
    }
}
