//! Accepts one connection of the controller after another on a transport.

use super::{
    resync::{Connection, HandshakeStream},
    transport::Transport,
};
use std::time::Duration;

/// Pause before a device is used again after its stream ended.
const REOPEN_MS: u64 = 5;

/// Serves connection after connection on `transport`: `serve` is called with each and returns when it has ended.
pub(crate) async fn accept_connections<F, S>(transport: Transport, mut serve: S) -> std::io::Result<()>
where
    S: FnMut(Connection) -> F,
    F: Future<Output = ()>,
{
    let mut stream = transport.accept().await?;
    loop {
        let handshakes = HandshakeStream::new(stream);
        let connections = async {
            let mut pad = false;
            while let Ok(connection) = handshakes.handshake(pad).await {
                serve(connection).await;
                // A peer that is still connected may wait for the rest of a frame: padding ends it. Another peer ignores the padding.
                pad = handshakes.needs_padding();
            }
        };
        stream = if transport.is_one_stream() {
            connections.await;
            // A device that fails at once must not keep the agent busy.
            tokio::time::sleep(Duration::from_millis(REOPEN_MS)).await;
            transport.accept().await?
        } else {
            tokio::select! {
                next = transport.accept() => next?,
                () = connections => transport.accept().await?,
            }
        };
    }
}
