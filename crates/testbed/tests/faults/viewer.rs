//! A viewer that records the end of its socket.

use anteroom_rfb::client::ViewerSocket;
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketEnd {
    /// The time of the end.
    pub at: Instant,
    /// The close code; `None` if the connection was lost.
    pub code: Option<u16>,
    /// The close reason.
    pub reason: String,
}

/// A connected viewer.
#[derive(Debug)]
pub(crate) enum Viewer {
    /// Reads all data.
    Reading(JoinHandle<()>, watch::Receiver<Option<SocketEnd>>),
    /// Reads nothing.
    Stalled(Box<ViewerSocket>),
}

impl Viewer {
    /// Reads until the end.
    pub(crate) fn reading(mut socket: ViewerSocket) -> Self {
        let (end_sender, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut chunk = vec![0; 64 * 1024];
            while matches!(socket.read(&mut chunk).await, Ok(bytes) if bytes > 0) {}
            let (code, reason) = match socket.close_reason() {
                Some(closing) => (Some(closing.code), closing.reason.clone()),
                None => (None, String::new()),
            };
            let _ = end_sender.send(Some(SocketEnd { at: Instant::now(), code, reason }));
        });
        Self::Reading(task, end)
    }

    /// Starts reading, so that the end of a stalled socket is found.
    pub(crate) fn resume_reading(self) -> Self {
        match self {
            Self::Stalled(socket) => Self::reading(*socket),
            reading @ Self::Reading(..) => reading,
        }
    }

    /// The end of the socket, if it ends within `limit`.
    pub(crate) async fn wait_end(&mut self, limit: Duration) -> Option<SocketEnd> {
        let Self::Reading(_, end) = self else { return None };
        timeout(limit, end.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }

    /// Disconnects without a close frame.
    pub(crate) fn disconnect(self) {
        match self {
            Self::Reading(task, _) => task.abort(),
            Self::Stalled(socket) => drop(socket),
        }
    }
}
