//! Notifies of changes near the credential's files (inotify).

use crate::platform::async_fd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{io, os::fd::OwnedFd, path::Path};
use tokio::io::{Interest, unix::AsyncFd};

/// Watches directories.
pub(super) struct FileWatch {
    notify: AsyncFd<OwnedFd>,
}

impl FileWatch {
    pub(super) fn new() -> io::Result<Self> {
        let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { notify: async_fd::register_fd(notify, Interest::READABLE)? })
    }

    /// Watches the nearest existing directory above `path`. Call it repeatedly: adding a directory twice changes nothing.
    pub(super) fn watch_near(&self, home: &Path, path: &Path) {
        let dirs = path.ancestors().skip(1).take_while(|dir| dir.starts_with(home));
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ONLYDIR;
        for dir in dirs {
            // Without a watch the files are still scanned periodically.
            if inotify::add_watch(self.notify.get_ref(), dir, flags).is_ok() {
                return;
            }
        }
    }

    /// Waits for a change. Several changes at once are reported as one.
    pub(super) async fn wait_changed(&self) {
        let Ok(mut ready) = self.notify.readable().await else { return std::future::pending().await };
        let mut events = [0; 4096];
        while rustix::io::read(self.notify.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
}
