//! What this host does for the others of its cluster: it answers their requests, lets machines join, and reports its state.

mod join;
mod listener;
mod questions;
mod start;
mod status;

pub(crate) use join::invite;
pub(crate) use start::start;
pub(crate) use status::own_status;

/// What docs/limits.md lists.
#[cfg(test)]
pub(crate) mod limits {
    pub(crate) use super::{
        join::REQUEST_BYTES_MAX,
        listener::{CONNECTIONS_MAX, HANDSHAKE_MS_MAX, HANDSHAKES_MAX},
    };
}
