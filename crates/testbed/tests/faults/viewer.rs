//! A viewer that watches its socket: whether it is open, and what it was told at its end.

use anteroom_controller::rfb::ViewerSocket;
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// When.
    pub at: Instant,
    /// The code it was closed with; `None`: it broke off.
    pub code: Option<u16>,
    /// The cause's name that came with it.
    pub reason: String,
}

/// A connected viewer.
#[derive(Debug)]
pub(crate) enum Viewer {
    /// Reads all it is sent.
    Reading(JoinHandle<()>, watch::Receiver<Option<End>>),
    /// Reads nothing.
    Stuck(Box<ViewerSocket>),
}

impl Viewer {
    /// Reads on until the end.
    pub(crate) fn reading(mut socket: ViewerSocket) -> Self {
        let (told, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut chunk = vec![0; 64 * 1024];
            while matches!(socket.read(&mut chunk).await, Ok(bytes) if bytes > 0) {}
            let (code, reason) = match socket.closing() {
                Some(closing) => (Some(closing.code), closing.reason.clone()),
                None => (None, String::new()),
            };
            let _ = told.send(Some(End { at: Instant::now(), code, reason }));
        });
        Self::Reading(task, end)
    }

    /// From now on reads; the end of one that was stuck is found that way.
    pub(crate) fn read_on(self) -> Self {
        match self {
            Self::Stuck(socket) => Self::reading(*socket),
            reading @ Self::Reading(..) => reading,
        }
    }

    /// How it ended, if it does within `limit`.
    pub(crate) async fn end(&mut self, limit: Duration) -> Option<End> {
        let Self::Reading(_, end) = self else { return None };
        timeout(limit, end.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }

    /// Is gone without a word.
    pub(crate) fn vanish(self) {
        match self {
            Self::Reading(task, _) => task.abort(),
            Self::Stuck(socket) => drop(socket),
        }
    }
}
