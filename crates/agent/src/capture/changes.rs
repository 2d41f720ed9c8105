//! The kernel's word that something changed near the credential's files (inotify).

use crate::watched::watched;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{io, os::fd::OwnedFd, path::Path};
use tokio::io::{Interest, unix::AsyncFd};

/// The watch on some directories.
pub(super) struct Changes {
    notify: AsyncFd<OwnedFd>,
}

impl Changes {
    pub(super) fn new() -> io::Result<Self> {
        let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { notify: watched(notify, Interest::READABLE)? })
    }

    /// Watches the nearest directory above `path` that exists (again and again: adding twice changes nothing).
    pub(super) fn watch_near(&self, home: &Path, path: &Path) {
        let dirs = path.ancestors().skip(1).take_while(|dir| dir.starts_with(home));
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ONLYDIR;
        for dir in dirs {
            // Without a watch there is still the backstop.
            if inotify::add_watch(self.notify.get_ref(), dir, flags).is_ok() {
                return;
            }
        }
    }

    /// Waits for a change; several at once are one.
    pub(super) async fn next(&self) {
        let Ok(mut ready) = self.notify.readable().await else { return std::future::pending().await };
        let mut events = [0; 4096];
        while rustix::io::read(self.notify.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
}
