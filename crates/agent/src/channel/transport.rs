//! Where byte streams come from: a virtio-serial port in a machine, a Unix socket in process mode.
//!
//! The guest's port is a character device with traps of its own:
//! - polled directly it spins after one hang-up, since its readiness is never cleared; so an own, edge-triggered epoll
//!   instance watches the port, and the reactor watches that instance;
//! - without a host `read` gives 0, but `write` says "try again" for ever; so on "try again" the hang-up is looked for;
//! - a fast close and open by the host is often missed; the resync above takes care of that.

use crate::{resync::Stream, watched::watched};
use rustix::{
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
        poll,
    },
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::UnixListener,
};

/// The port may appear after the agent has started.
const PORT_EVERY_MS: u64 = 20;
const PORT_MS_MAX: u64 = 30_000;
/// Backstop for a host whose arrival made no event.
const HOST_EVERY_MS: u64 = 1_000;

/// A place where hosts come, one after another.
pub(crate) enum Medium {
    /// A virtio-serial port, open for the agent's whole life (a second open would be refused).
    Virtio(Arc<Device>),
    /// A listening socket; a new connection replaces the one before.
    Unix(UnixListener),
}

impl Medium {
    /// The virtio-serial port called `name`, waited for as it may appear late.
    pub(crate) async fn virtio(name: &str) -> io::Result<Self> {
        let look = async {
            loop {
                if let Some(path) = find_port(Path::new("/sys/class/virtio-ports"), name) {
                    return Device::open(&path);
                }
                tokio::time::sleep(Duration::from_millis(PORT_EVERY_MS)).await;
            }
        };
        let device = tokio::time::timeout(Duration::from_millis(PORT_MS_MAX), look).await.map_err(|_| {
            io::Error::new(io::ErrorKind::NotFound, format!("no virtio-serial port is called {name}"))
        })??;
        Ok(Self::Virtio(Arc::new(device)))
    }

    /// A Unix socket at `path`; what an earlier agent left there is removed.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Self::Unix(UnixListener::bind(path)?))
    }

    /// The next host's stream.
    pub(crate) async fn next(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Virtio(device) => {
                device.host().await;
                Ok(Box::new(Port { device: device.clone(), dead: false }))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }

    /// Whether one stream lasts over several hosts (a device), or each host brings its own (a socket).
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Virtio(_) => true,
            Self::Unix(_) => false,
        }
    }
}

fn find_port(class: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(class).ok()?;
    entries.flatten().find_map(|entry| {
        let found = std::fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim() == name).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[derive(Default)]
struct Wakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The opened character device.
pub(crate) struct Device {
    port: OwnedFd,
    wakers: Arc<Mutex<Wakers>>,
    changed: Arc<tokio::sync::Notify>,
    pump: tokio::task::JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

fn lock(wakers: &Mutex<Wakers>) -> MutexGuard<'_, Wakers> {
    wakers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    fn open(path: &Path) -> io::Result<Self> {
        let port = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&watch, &port, EventData::new_u64(0), EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        let watch = watched(watch, Interest::READABLE)?;
        let wakers = Arc::new(Mutex::new(Wakers::default()));
        let changed = Arc::new(tokio::sync::Notify::new());
        let pump = tokio::spawn(pump(watch, wakers.clone(), changed.clone()));
        Ok(Self { port, wakers, changed, pump })
    }

    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.port, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Waits until a host has the other end open.
    async fn host(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.hung_up() {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(HOST_EVERY_MS), changed).await;
        }
    }
}

/// Empties the own epoll instance at each event and wakes both directions.
async fn pump(watch: AsyncFd<OwnedFd>, wakers: Arc<Mutex<Wakers>>, changed: Arc<tokio::sync::Notify>) {
    loop {
        let Ok(mut ready) = watch.readable().await else { return };
        ready.clear_ready();
        // Draining after clearing: an event between the two shows again. An interrupted drain does, too.
        drain(watch.get_ref());
        changed.notify_waiters();
        let mut wakers = lock(&wakers);
        for waker in [wakers.reader.take(), wakers.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

fn drain(watch: &OwnedFd) {
    let mut events: Vec<Event> = Vec::with_capacity(4);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = epoll::wait(watch.as_fd(), rustix::buffer::spare_capacity(&mut events), Some(&now));
}

/// The device as one host's stream. Dead once that host has hung up.
struct Port {
    device: Arc<Device>,
    dead: bool,
}

impl AsyncRead for Port {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.dead {
            return Poll::Ready(Ok(()));
        }
        // The waker first: an event between a failed read and a later registration would be lost.
        lock(&self.device.wakers).reader = Some(cx.waker().clone());
        match rustix::io::read(&self.device.port, buf.initialize_unfilled()) {
            Ok(n) => {
                self.dead = n == 0 && buf.remaining() > 0;
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        lock(&self.device.wakers).writer = Some(cx.waker().clone());
        match rustix::io::write(&self.device.port, buf) {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(Errno::AGAIN | Errno::INTR) if self.device.hung_up() => {
                self.dead = true;
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_name_only() {
        let class = tempfile::tempdir().unwrap();
        for (port, name) in [("vport1p1", "anteroom.agent\n"), ("vport1p2", "anteroom.host\n")] {
            std::fs::create_dir(class.path().join(port)).unwrap();
            std::fs::write(class.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(find_port(class.path(), "anteroom.host"), Some(PathBuf::from("/dev/vport1p2")));
        assert_eq!(find_port(class.path(), "anteroom"), None);
        assert_eq!(find_port(&class.path().join("absent"), "anteroom.host"), None);
    }
}
