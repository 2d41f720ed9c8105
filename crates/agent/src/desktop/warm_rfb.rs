//! A connection to the display server that has joined before there is a viewer, so that the next viewer's handshake
//! costs the display server nothing: in a fresh clone each first run of its code is slow.
//!
//! ```text
//!  display up ─▶ rehearse ─▶ join ─▶ hold ──▶ asked for: hand over ──▶ pause ─▶ join again
//!                                     └─────▶ ended, or it spoke: drop ─┘
//!
//!  viewer     agent: version ─▶ ◀─ version   agent: types [none] ─▶ ◀─ none   agent: ok ─▶ ◀─ ClientInit
//!     3.8, shared        ServerInit as the display server told the spare, then bytes both ways
//!     3.8, exclusive     the same on a connection that joins exclusively
//!     another version    a new connection that gets the viewer's version, then bytes both ways
//! ```
//!
//! The agent answers only what it has itself agreed on with the display server: 3.8 and security type "none". A spare
//! that is sent anything is dropped (its viewer would have to see that first); one whose desktop changes its size is
//! closed by the display server, as it did not say that it could follow.

use crate::{
    agent::Agent,
    log,
    rfb::{self, NO_SECURITY, ServerInit, VERSION},
};
use anteroom_wire::agent::Stage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
};

/// From a spare's end to the next one: the viewer's first picture goes before.
const AGAIN_MS: u64 = 3_000;
/// A viewer's whole handshake.
const SEAT_MS_MAX: u64 = 30_000;
/// What a browser's viewer takes: CopyRect, Tight, then JPEG quality 6 and compression 2.
const AS_A_BROWSER: [i32; 4] = [1, 7, -26, -254];
/// What every viewer takes: raw.
const PLAINLY: [i32; 1] = [0];
/// The reason that a viewer of 3.8 is told when it takes a security type that was not offered.
const NOT_OFFERED: &[u8] = b"security type was not offered";

/// A connection that has joined, shared, and has sent nothing else.
#[derive(Debug)]
pub(crate) struct Spare {
    stream: UnixStream,
    init: ServerInit,
}

impl Spare {
    /// Joins the desktop at `socket`.
    pub(crate) async fn join(socket: &Path) -> io::Result<Self> {
        let (stream, init) = rfb::join(socket, true).await?;
        Ok(Self { stream, init })
    }

    /// Whether nothing came since, not even the end: asked of the kernel, as the reactor may not know yet.
    fn is_fresh(&self) -> bool {
        let mut look = [PollFd::new(&self.stream, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut look, Some(&now)), Ok(0))
    }

    /// Waits until something comes, or the end.
    async fn spoke(&self) {
        while self.stream.readable().await.is_ok() {
            // Reading is what clears a readiness that was left from before.
            let mut one = [0];
            match self.stream.try_read(&mut one) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// A question for the spare, with the way to hand it over.
type Ask = oneshot::Sender<oneshot::Sender<Spare>>;

/// Where the spare is asked for. One at most is kept.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    ask: Mutex<Option<Ask>>,
}

impl Desk {
    fn ask(&self) -> MutexGuard<'_, Option<Ask>> {
        self.ask.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spare, if there is a fresh one; never waits for one to be made.
    pub(crate) async fn take(&self) -> Option<Spare> {
        let ask = self.ask().take()?;
        let (give, given) = oneshot::channel();
        ask.send(give).ok()?;
        given.await.ok()
    }

    /// Keeps `spare` until it is handed over or of no more use.
    pub(crate) async fn hold(&self, spare: Spare) {
        let (ask, asked) = oneshot::channel::<oneshot::Sender<Spare>>();
        *self.ask() = Some(ask);
        tokio::select! {
            biased;
            () = spare.spoke() => {}
            asked = asked => {
                // Who asks and gets nothing takes a connection of its own.
                if let Ok(give) = asked && spare.is_fresh() {
                    let _ = give.send(spare);
                }
            }
        }
        self.ask().take();
    }
}

/// Keeps a spare on the desk, for ever, from when the desktop's terminal is shown.
pub(crate) async fn keep(agent: Arc<Agent>) {
    let Some(socket) = &agent.place.rfb_socket else { return };
    agent.stages.reached(Stage::Display).await;
    agent.stages.reached(Stage::Terminal).await;
    if agent.place.is_machine() {
        for encodings in [&AS_A_BROWSER[..], &PLAINLY[..]] {
            if let Err(error) = rfb::rehearse(socket, encodings).await {
                log::line(&format!("the rehearsal of a picture broke off: {error}"));
            }
        }
    }
    let mut told = false;
    loop {
        agent.stages.reached(Stage::Display).await;
        match Spare::join(socket).await {
            Ok(spare) => {
                told = false;
                agent.desk.hold(spare).await;
            }
            Err(error) if !told => {
                told = true;
                log::line(&format!("no spare connection to the desktop: {error}"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
    }
}

/// What a viewer has asked for in its half of the handshake.
enum Wish {
    /// 3.8, no security, and whether beside others.
    Join { shared: bool },
    /// Another version than 3.8.
    Version([u8; 12]),
}

/// Shakes hands with `viewer` and gives the connection that serves it from here on: `spare`, or another where the viewer
/// wants what `spare` is not.
///
/// Errors: the viewer went, was late (30 s) or broke the protocol; the display server did not take another connection.
pub(crate) async fn seat<V>(viewer: &mut V, spare: Spare, socket: &Path) -> io::Result<UnixStream>
where
    V: AsyncRead + AsyncWrite + Unpin,
{
    let wish = tokio::time::timeout(Duration::from_millis(SEAT_MS_MAX), wish(viewer)).await??;
    let (display, init) = match wish {
        Wish::Join { shared: true } => (spare.stream, spare.init),
        Wish::Join { shared: false } => rfb::join(socket, false).await?,
        Wish::Version(version) => return rfb::connect_as(socket, version).await,
    };
    viewer.write_all(init.bytes()).await?;
    viewer.flush().await?;
    Ok(display)
}

async fn wish<V: AsyncRead + AsyncWrite + Unpin>(viewer: &mut V) -> io::Result<Wish> {
    tell(viewer, VERSION).await?;
    let mut version = [0; 12];
    viewer.read_exact(&mut version).await?;
    if version != *VERSION {
        return Ok(Wish::Version(version));
    }
    tell(viewer, &[1, NO_SECURITY]).await?;
    if viewer.read_u8().await? != NO_SECURITY {
        let mut refusal = vec![0, 0, 0, 1, 0, 0, 0, NOT_OFFERED.len() as u8];
        refusal.extend(NOT_OFFERED);
        tell(viewer, &refusal).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it took a security type that was not offered"));
    }
    tell(viewer, &[0; 4]).await?;
    Ok(Wish::Join { shared: viewer.read_u8().await? != 0 })
}

async fn tell<V: AsyncWrite + Unpin>(viewer: &mut V, bytes: &[u8]) -> io::Result<()> {
    viewer.write_all(bytes).await?;
    viewer.flush().await
}

#[cfg(test)]
mod tests;
