//! The controller channel: HTTP/2 requests from the machine's agent to the controller.

use super::ControllerService;
use anteroom_wire::{
    MachineId,
    channel::{
        CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
        STREAMS_MAX,
    },
};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// Streams of one connection that the machine resets before they were accepted.
pub const RESET_STREAMS_MAX: usize = 20;
/// Streams of one connection that are reset because the machine broke the protocol of a stream.
pub const BROKEN_STREAMS_MAX: usize = 256;

/// HTTP/2 keep-alive. Only closes the connection; whether the machine has hung is decided on the agent channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// Interval between two pings.
    pub(crate) interval: Duration,
    /// How long a ping may stay unanswered.
    pub(crate) timeout: Duration,
}

/// Serves one connection until it ends or breaks.
///
/// # Errors
/// The connection breaks, or the peer does not speak HTTP/2.
pub(crate) async fn serve<S>(
    stream: S,
    machine: MachineId,
    service: ControllerService,
    keep_alive: KeepAlive,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(move |request| {
        let response = service(machine.clone(), request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(BROKEN_STREAMS_MAX)
        .keep_alive_interval(keep_alive.interval)
        .keep_alive_timeout(keep_alive.timeout)
        .serve_connection(TokioIo::new(stream), handler)
        .await
}
