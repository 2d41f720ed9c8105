//! Server-sent events of sessions. All streams of a session share one feed, which reads the database once for each change.

mod feed;
mod open_streams;

pub use open_streams::EventStreams;

#[cfg(test)]
pub(super) mod limits {
    pub(crate) use super::{
        feed::READ_MS_MIN,
        open_streams::{STREAMS_BY_CALLER_MAX, STREAMS_BY_SESSION_MAX, STREAMS_OF_CALLER_MAX, STREAMS_OF_VIEWERS_MAX},
    };
}
