//! File descriptors registered with the async runtime.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A type that owns its descriptor, so that the descriptor cannot be closed while it is registered.
pub(crate) trait OwnsFd: AsRawFd {}
impl OwnsFd for OwnedFd {}
impl OwnsFd for Arc<OwnedFd> {}

/// Registers `fd` with the runtime. The descriptor need not be non-blocking as long as it is used only when it is ready.
pub(crate) fn register_fd<T: OwnsFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `OwnsFd` types always return the same descriptor and keep it open until they are dropped.
    #[expect(unsafe_code, reason = "the caller must promise what `OwnsFd` already guarantees")]
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(registered?)
}
