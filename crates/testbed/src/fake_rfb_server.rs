//! An RFB 3.8 server on a Unix socket with a picture that moves and that shows what was typed and clicked.
//!
//! - Security None; the desktop's name and size are given. 32-bit pixels in whatever order the client asks for.
//! - A block of [`BLOCK_COLOUR`] wanders over a plain ground, so that every incremental request is answered within
//!   [`TICK_MS`].
//! - A key changes the ground to [`colour_of_key`]; a pressed button leaves a spot of [`SPOT_COLOUR`] where it was.
//! - [`Behaviour`] makes it slow, flooding, silent or closed, at any moment.

mod framebuffer;
mod connection;

pub use framebuffer::{BLOCK_COLOUR, SPOT_COLOUR, colour_of_key, ground_of};

use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Time between two movements of the block, milliseconds.
pub const TICK_MS: u64 = 40;

/// How the desktop behaves from now on, for open connections too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// As a desktop should.
    #[default]
    Normal,
    /// Sends at most 4 KiB every [`TICK_MS`].
    Slow,
    /// Sends whole pictures without being asked, as fast as they are taken.
    Flood,
    /// Takes connections and says nothing, not even the greeting.
    Silent,
    /// Ends all connections and every new one at once.
    Closed,
}

/// A desktop. Dropping it ends its connections and removes its socket.
#[derive(Debug)]
pub struct FakeRfbServer {
    socket: PathBuf,
    behaviour: watch::Sender<Behaviour>,
    viewers: Arc<AtomicU64>,
    task: AbortHandle,
}

impl FakeRfbServer {
    /// Listens on `socket`. The name tells desktops apart, and so does the ground's first colour ([`ground_of`]).
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(socket: &Path, name: &str, width: u16, height: u16) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let (behaviour, orders) = watch::channel(Behaviour::default());
        let viewers = Arc::new(AtomicU64::new(0));
        let (name, seen) = (name.to_owned(), viewers.clone());
        let task = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                if *orders.borrow() != Behaviour::Closed {
                    seen.fetch_add(1, Relaxed);
                    connections.spawn(connection::serve(stream, name.clone(), width, height, orders.clone()));
                }
            }
        });
        Ok(Self { socket: socket.to_owned(), behaviour, viewers, task: task.abort_handle() })
    }

    /// From now on behaves so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Connections so far.
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Relaxed)
    }

    /// Obeys [`order`]s from other processes, for ever.
    pub async fn obey(&self) {
        loop {
            let order = tokio::fs::read(order_file(&self.socket)).await;
            let order = order.ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(order) = order {
                self.behaviour.send_if_modified(|now| std::mem::replace(now, order) != order);
            }
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
        }
    }
}

/// Tells the desktop at `socket`, in another process, how to behave; it is heard within [`TICK_MS`].
///
/// # Errors
/// The file beside the socket cannot be written.
pub fn order(socket: &Path, behaviour: Behaviour) -> io::Result<()> {
    let file = order_file(socket);
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(&behaviour)?)?;
    std::fs::rename(fresh, file)
}

fn order_file(socket: &Path) -> PathBuf {
    socket.with_extension("behaviour")
}

impl Drop for FakeRfbServer {
    fn drop(&mut self) {
        self.task.abort();
        // It may have been removed with its directory.
        let _ = std::fs::remove_file(&self.socket);
    }
}
