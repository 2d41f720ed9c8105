//! Preconnected streams: an RFB connection to the display server that has completed its handshake before there is a viewer. So the next
//! viewer's handshake needs no work of the display server: in a new clone the first run of any code is slow.
//!
//! ```text
//!  display ready ─▶ warm up ─▶ connect ─▶ offer ──▶ requested: hand over ──▶ pause ─▶ connect again
//!                                           └─────▶ ended, or it received bytes: drop ─┘
//!
//!  viewer     agent: version ─▶ ◀─ version   agent: types [none] ─▶ ◀─ none   agent: ok ─▶ ◀─ ClientInit
//!     3.8, shared        the ServerInit of the preconnected stream, then bytes both ways
//!     3.8, exclusive     the same on a new, exclusive connection
//!     another version    a new connection that gets the viewer's version, then bytes both ways
//! ```
//!
//! The agent answers only with what it has agreed on with the display server: 3.8 and security type "none". A preconnected stream that
//! receives anything is dropped (its viewer would have to see that first). The display server closes one when the desktop changes its
//! size, since it did not announce support for that.

use super::rfb::{self, ServerInit};
use crate::{
    log,
    platform::{environment::ExecutionEnvironment, readiness::Readiness},
};
use anteroom_rfb::handshake::{
    OFFER_SECURITY_NONE, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_OK, encode_security_failure,
};
use anteroom_wire::agent::Stage;
use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
};

/// From the end of a preconnected stream to the next one: the viewer's first picture comes first.
const RECONNECT_MS: u64 = 3_000;
/// A viewer's whole handshake.
const HANDSHAKE_MS_MAX: u64 = 30_000;
/// The encodings of a browser's viewer: CopyRect, Tight, then JPEG quality 6 and compression 2.
const BROWSER_ENCODINGS: [i32; 4] = [1, 7, -26, -254];
/// The encoding of every viewer: raw.
const RAW_ENCODING: [i32; 1] = [0];
/// The reason sent to a viewer of 3.8 that selects a security type that was not offered.
const NOT_OFFERED: &str = "security type was not offered";

/// A shared connection that has completed its handshake, and has sent nothing else.
#[derive(Debug)]
pub(crate) struct PreconnectedRfb {
    stream: UnixStream,
    init: ServerInit,
}

impl PreconnectedRfb {
    /// Connects to the desktop at `socket`.
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        let (stream, init) = rfb::connect(socket, true).await?;
        Ok(Self { stream, init })
    }

    /// Whether nothing has arrived since the handshake, not even the end of the stream. Asks the kernel, since the async runtime may not
    /// know yet.
    fn is_unused(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Waits until bytes or the end of the stream arrive.
    async fn wait_readable(&self) {
        while self.stream.readable().await.is_ok() {
            // Only a read clears a readiness of an earlier time.
            let mut one = [0];
            match self.stream.try_read(&mut one) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// A request for the preconnected stream: the sender through which it is handed over.
type Request = oneshot::Sender<PreconnectedRfb>;

/// Offers at most one preconnected stream.
#[derive(Debug, Default)]
pub(crate) struct PreconnectedRfbSlot {
    offer: Mutex<Option<oneshot::Sender<Request>>>,
}

impl PreconnectedRfbSlot {
    fn lock(&self) -> MutexGuard<'_, Option<oneshot::Sender<Request>>> {
        self.offer.lock()
    }

    /// The preconnected stream, if there is an unused one. Never waits for a new connection.
    pub(crate) async fn take(&self) -> Option<PreconnectedRfb> {
        let offer = self.lock().take()?;
        let (request, connection) = oneshot::channel();
        offer.send(request).ok()?;
        connection.await.ok()
    }

    /// Offers `connection` until it is handed over or no longer usable.
    pub(crate) async fn offer(&self, connection: PreconnectedRfb) {
        let (offer, requested) = oneshot::channel::<Request>();
        *self.lock() = Some(offer);
        tokio::select! {
            biased;
            () = connection.wait_readable() => {}
            request = requested => {
                // A caller that gets nothing makes a new connection.
                if let Ok(request) = request && connection.is_unused() {
                    let _ = request.send(connection);
                }
            }
        }
        self.lock().take();
    }
}

/// Offers one preconnected stream in `slot` from when the desktop's terminal is visible, and the next one after that was handed over or has
/// ended. Never returns if the machine has a desktop.
pub(crate) async fn offer_preconnected_streams(
    environment: &ExecutionEnvironment,
    readiness: &Readiness,
    slot: &PreconnectedRfbSlot,
) {
    let Some(socket) = &environment.rfb_socket else { return };
    readiness.wait_ready(Stage::Display).await;
    readiness.wait_ready(Stage::Terminal).await;
    if environment.is_machine() {
        for encodings in [&BROWSER_ENCODINGS[..], &RAW_ENCODING[..]] {
            if let Err(error) = rfb::warm_up(socket, encodings).await {
                log::write_line(&format!("warm-up of the display failed: {error}"));
            }
        }
    }
    let mut is_failing = false;
    loop {
        readiness.wait_ready(Stage::Display).await;
        match PreconnectedRfb::connect(socket).await {
            Ok(connection) => {
                is_failing = false;
                slot.offer(connection).await;
            }
            Err(error) if !is_failing => {
                is_failing = true;
                log::write_line(&format!("preconnected stream to the desktop failed: {error}"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
    }
}

/// What a viewer requests in its part of the handshake.
enum ViewerRequest {
    /// Version 3.8 and no security. `shared`: other viewers stay connected.
    Connect { shared: bool },
    /// Another version than 3.8.
    Version([u8; 12]),
}

/// Completes the handshake with `viewer`, and returns the connection that serves it from then on: the preconnected one, or a new one if the
/// viewer's request needs another.
///
/// # Errors
/// The viewer left, took longer than 30 s or broke the protocol; the display server accepted no other connection.
pub(crate) async fn connect_viewer<V>(
    viewer: &mut V,
    preconnected: PreconnectedRfb,
    socket: &Path,
) -> io::Result<UnixStream>
where
    V: AsyncRead + AsyncWrite + Unpin,
{
    let request = tokio::time::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), read_request(viewer)).await??;
    let (display, init) = match request {
        ViewerRequest::Connect { shared: true } => (preconnected.stream, preconnected.init),
        ViewerRequest::Connect { shared: false } => rfb::connect(socket, false).await?,
        ViewerRequest::Version(version) => return rfb::connect_with_version(socket, version).await,
    };
    send(viewer, init.bytes()).await?;
    Ok(display)
}

async fn read_request<V: AsyncRead + AsyncWrite + Unpin>(viewer: &mut V) -> io::Result<ViewerRequest> {
    send(viewer, PROTOCOL_VERSION).await?;
    let mut version = [0; 12];
    viewer.read_exact(&mut version).await?;
    if version != *PROTOCOL_VERSION {
        return Ok(ViewerRequest::Version(version));
    }
    send(viewer, &OFFER_SECURITY_NONE).await?;
    if viewer.read_u8().await? != SECURITY_NONE {
        send(viewer, &encode_security_failure(NOT_OFFERED)).await?;
        let message = "the viewer selected a security type that was not offered";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    send(viewer, &SECURITY_OK).await?;
    Ok(ViewerRequest::Connect { shared: viewer.read_u8().await? != 0 })
}

async fn send<V: AsyncWrite + Unpin>(viewer: &mut V, bytes: &[u8]) -> io::Result<()> {
    viewer.write_all(bytes).await?;
    viewer.flush().await
}

#[cfg(test)]
mod tests;
