//! Event streams of the lines that this server writes into its log and its audit trail.

use crate::auth::LiveCaller;
use anteroom_controller::{api_error::ApiError, session::context::SessionContext};
use anteroom_wire::Problem;
use axum::response::sse::Event;
use std::{convert::Infallible, io, mem, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Streams that are open at once, of all operators.
pub(crate) const FILE_STREAMS_MAX: usize = 8;
/// Bytes of lines that are in memory for one stream: those that wait, and as many that were read after them.
pub(crate) const FILE_STREAM_BYTES_MAX: usize = 256 * 1_024;
/// The event after the lines that were there, so that a client knows at once that the stream is open.
const LIVE_EVENT: &str = "live";
/// Time between two looks at a file, milliseconds.
const LOOK_EVERY_MS: u64 = 300;

type EventSender = mpsc::Sender<Result<Event, Infallible>>;

/// The places of the streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileStreams(Arc<Semaphore>);

impl Default for FileStreams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FILE_STREAMS_MAX)))
    }
}

/// Lines that were read and not yet sent.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<String>,
    bytes: usize,
}

impl Lines {
    /// Adds a line; returns whether there is space for another one.
    pub(crate) fn push(&mut self, line: String) -> bool {
        self.bytes += line.len();
        self.lines.push(line);
        self.bytes < FILE_STREAM_BYTES_MAX
    }
}

impl FileStreams {
    /// Opens a stream of events of this name: first these lines, then [`LIVE_EVENT`], then the lines that `read` finds at each look.
    ///
    /// # Errors
    /// There are too many streams.
    pub(crate) fn stream(
        &self,
        context: &SessionContext,
        live_caller: LiveCaller,
        name: &'static str,
        first: Vec<String>,
        read: impl FnMut(&mut Lines) -> io::Result<()> + Send + 'static,
    ) -> Result<ReceiverStream<Result<Event, Infallible>>, ApiError> {
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let detail =
                format!("{FILE_STREAMS_MAX} streams of the log and the audit trail are open, which is the limit");
            ApiError::new(Problem::TooManyStreams, detail)
        })?;
        let (sender, receiver) = mpsc::channel(1);
        let stop = context.stop.clone();
        context.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = send_lines(&sender, name, first, read) => {}
                () = sender.closed() => {}
                cause = live_caller.signal().wait_closed() => {
                    if let Ok(data) = serde_json::to_string(&Problem::from(cause).with_detail("")) {
                        let _ = sender.send(Ok(Event::default().event("closed").data(data))).await;
                    }
                }
                () = stop.cancelled() => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Sends lines until the client has disconnected or the file cannot be read.
async fn send_lines(
    sender: &EventSender,
    name: &'static str,
    first: Vec<String>,
    mut read: impl FnMut(&mut Lines) -> io::Result<()> + Send + 'static,
) {
    let mut lines = first;
    let mut live = Some(Event::default().event(LIVE_EVENT).data("{}"));
    loop {
        // A return without an escape would end an event.
        for line in lines.into_iter().filter(|line| !line.contains('\r')) {
            if sender.send(Ok(Event::default().event(name).data(line))).await.is_err() {
                return;
            }
        }
        if let Some(event) = live.take()
            && sender.send(Ok(event)).await.is_err()
        {
            return;
        }
        let looked = tokio::task::spawn_blocking(move || {
            let mut found = Lines::default();
            let done = read(&mut found);
            (read, mem::take(&mut found.lines), done)
        });
        match looked.await {
            Ok((reader, found, Ok(()))) => (read, lines) = (reader, found),
            Ok((_, _, Err(error))) => {
                tracing::warn!(outcome = "stream_ended", name, %error, "a followed file cannot be read");
                return;
            }
            Err(_) => return,
        }
        if lines.is_empty() {
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        }
    }
}
