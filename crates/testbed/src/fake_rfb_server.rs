//! An RFB 3.8 server on a Unix socket. Its picture moves, and shows which key and button were pressed.
//!
//! - Security type None. The desktop's name and size are parameters. Pixels have 32 bits, in the order that the client requests.
//! - A block of [`BLOCK_COLOUR`] moves over a plain background, so that every incremental request is answered within
//!   [`TICK_MS`].
//! - A key changes the background to [`background_colour_after_key`]; a pressed button leaves a spot of [`SPOT_COLOUR`] at its position.
//! - [`ServerBehaviour`] makes it slow, flooding, silent or closed at any time.

mod connection;
mod framebuffer;

pub use framebuffer::{BLOCK_COLOUR, SPOT_COLOUR, background_colour_after_key, initial_background_colour};

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

/// The time between two movements of the block, milliseconds.
pub const TICK_MS: u64 = 40;

/// The desktop's behaviour. A change applies to open connections too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerBehaviour {
    /// Answers every request.
    #[default]
    Normal,
    /// Sends at most 4 KiB every [`TICK_MS`].
    Slow,
    /// Sends whole pictures without a request, as fast as the client reads them.
    Flood,
    /// Accepts connections and sends nothing, not even the greeting.
    Silent,
    /// Closes all connections, and each new one at once.
    Closed,
}

/// A desktop. Dropping it closes its connections and removes its socket.
#[derive(Debug)]
pub struct FakeRfbServer {
    socket: PathBuf,
    behaviour: watch::Sender<ServerBehaviour>,
    accepted: Arc<AtomicU64>,
    task: AbortHandle,
}

impl FakeRfbServer {
    /// Listens on `socket`. The initial background colour depends on the desktop's name ([`initial_background_colour`]).
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn start(socket: &Path, name: &str, width: u16, height: u16) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let (behaviour, current) = watch::channel(ServerBehaviour::default());
        let accepted = Arc::new(AtomicU64::new(0));
        let (name, count) = (name.to_owned(), accepted.clone());
        let task = tokio::spawn(async move {
            // Aborting this task drops the connections.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                if *current.borrow() != ServerBehaviour::Closed {
                    count.fetch_add(1, Relaxed);
                    connections.spawn(connection::serve(stream, name.clone(), width, height, current.clone()));
                }
            }
        });
        Ok(Self { socket: socket.to_owned(), behaviour, accepted, task: task.abort_handle() })
    }

    /// Changes the behaviour.
    pub fn set_behaviour(&self, behaviour: ServerBehaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// The number of connections accepted so far.
    pub fn accepted_connection_count(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Applies the behaviours that other processes set by [`write_behaviour`]. Never returns.
    pub async fn follow_behaviour_file(&self) {
        loop {
            let requested = tokio::fs::read(behaviour_file(&self.socket)).await;
            let requested = requested.ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(requested) = requested {
                self.behaviour.send_if_modified(|current| std::mem::replace(current, requested) != requested);
            }
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
        }
    }
}

/// Sets the behaviour of the desktop at `socket`, which another process runs. It is applied within [`TICK_MS`].
///
/// # Errors
/// The file next to the socket cannot be written.
pub fn write_behaviour(socket: &Path, behaviour: ServerBehaviour) -> io::Result<()> {
    let file = behaviour_file(socket);
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(&behaviour)?)?;
    std::fs::rename(fresh, file)
}

fn behaviour_file(socket: &Path) -> PathBuf {
    socket.with_extension("behaviour")
}

impl Drop for FakeRfbServer {
    fn drop(&mut self) {
        self.task.abort();
        // The socket may have been removed with its directory.
        let _ = std::fs::remove_file(&self.socket);
    }
}
