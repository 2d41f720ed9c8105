//! Server-sent events of sessions. All streams of a session share one feed, which reads the database once for each change.

mod feed;
mod followed_files;
mod open_streams;
mod session_list;

pub use followed_files::FileStreams;
pub use open_streams::EventStreams;
pub use session_list::SessionListStreams;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::sse::Event,
};
use futures_util::{Stream, StreamExt};
use std::{convert::Infallible, time::Duration};

/// After how long a client connects again to a stream that ended, milliseconds.
const RETRY_MS: u64 = 1_000;

/// Marks a response as a stream that nothing on the way may store or hold back (nginx: `X-Accel-Buffering`).
pub(super) fn mark_as_event_stream(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// The stream with the delay after which a client connects again.
pub(super) fn with_retry(
    events: impl Stream<Item = Result<Event, Infallible>>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let retry = Event::default().retry(Duration::from_millis(RETRY_MS));
    futures_util::stream::once(std::future::ready(Ok(retry))).chain(events)
}

#[cfg(test)]
pub(super) mod limits {
    pub(crate) use super::{
        feed::READ_MS_MIN,
        followed_files::{FILE_STREAM_BYTES_MAX, FILE_STREAMS_MAX},
        open_streams::{STREAMS_BY_CALLER_MAX, STREAMS_BY_SESSION_MAX, STREAMS_OF_CALLER_MAX, STREAMS_OF_VIEWERS_MAX},
        session_list::{LIST_READ_MS_MIN, LIST_STREAMS_MAX, LIST_STREAMS_OF_CALLER_MAX, LIST_STREAMS_OF_OPERATORS_MIN},
    };
}
