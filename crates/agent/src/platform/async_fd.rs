//! Descriptors that the reactor watches.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Something that owns its descriptor, so that the descriptor cannot be closed while it is watched.
pub(crate) trait Owns: AsRawFd {}
impl Owns for OwnedFd {}
impl Owns for Arc<OwnedFd> {}

/// Lets the reactor watch `fd` (which need not be non-blocking as long as only a ready one is used).
pub(crate) fn watched<T: Owns>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Owns` types always give the same descriptor and keep it open until they are dropped.
    #[expect(unsafe_code, reason = "the caller must promise what `Owns` already means")]
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}
