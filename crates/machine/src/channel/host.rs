//! The host channel: the machine's agent calls, the controller answers.

use super::HostService;
use anteroom_wire::{
    MachineId,
    channel::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX},
};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// When a connection from which nothing comes is given up. Whether the machine has hung is seen on its other channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// Between two.
    pub(crate) every: Duration,
    /// How long one may stay unanswered.
    pub(crate) max: Duration,
}

/// Serves one connection until it ends or breaks.
///
/// # Errors
/// When the connection breaks or does not speak HTTP/2.
pub(crate) async fn serve<S>(
    stream: S,
    machine: MachineId,
    service: HostService,
    pings: KeepAlive,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| {
        let answered = service(machine.clone(), request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(pings.every)
        .keep_alive_timeout(pings.max)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}
