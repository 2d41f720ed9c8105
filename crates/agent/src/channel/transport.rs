//! The byte streams of the channels: in a machine a virtio-serial port or a vsock port, a Unix socket in process mode.
//!
//! The guest's virtio-serial port is a character device with three peculiarities:
//! - polled directly it spins after one hang-up, since its readiness is never cleared; so a separate, edge-triggered epoll instance
//!   watches the port, and the async runtime watches that instance;
//! - without a peer on the host `read` returns 0, but `write` returns `EAGAIN` forever; so after `EAGAIN` it checks for a hang-up;
//! - a fast close and open on the host is often missed; [`super::resync`] handles that.

use super::resync::ByteStream;
use crate::platform::async_fd;
use parking_lot::Mutex;
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
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::UnixListener,
};
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener};

/// The port may appear after the agent has started.
const FIND_PORT_EVERY_MS: u64 = 20;
const FIND_PORT_MS_MAX: u64 = 30_000;
/// How often the port is checked for a peer whose arrival caused no event.
const CHECK_PEER_EVERY_MS: u64 = 1_000;

/// An endpoint to which peers connect, one after another.
pub(crate) enum Transport {
    /// A virtio-serial port, open as long as the agent runs (a second open would be rejected).
    Virtio(Arc<VirtioDevice>),
    /// A listening socket; a new connection replaces the previous one.
    Unix(UnixListener),
    /// A listening vsock socket, for the host only. It survives a snapshot, which closes its connections.
    Vsock(VsockListener),
}

impl Transport {
    /// The virtio-serial port called `name`; waits until it appears.
    pub(crate) async fn virtio(name: &str) -> io::Result<Self> {
        let find = async {
            loop {
                if let Some(path) = find_port(Path::new("/sys/class/virtio-ports"), name) {
                    return VirtioDevice::open(&path);
                }
                tokio::time::sleep(Duration::from_millis(FIND_PORT_EVERY_MS)).await;
            }
        };
        let device = tokio::time::timeout(Duration::from_millis(FIND_PORT_MS_MAX), find).await.map_err(|_| {
            io::Error::new(io::ErrorKind::NotFound, format!("no virtio-serial port is called {name}"))
        })??;
        Ok(Self::Virtio(Arc::new(device)))
    }

    /// A Unix socket at `path`; a file that an earlier agent left there is removed.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Self::Unix(UnixListener::bind(path)?))
    }

    /// The vsock port `port`.
    pub(crate) fn vsock(port: u32) -> io::Result<Self> {
        Ok(Self::Vsock(VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))?))
    }

    /// Waits for the next peer and returns its stream.
    pub(crate) async fn accept(&self) -> io::Result<Box<dyn ByteStream>> {
        match self {
            Self::Virtio(device) => {
                device.wait_for_peer().await;
                Ok(Box::new(VirtioStream { device: device.clone(), ended: false }))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Vsock(listener) => loop {
                let (stream, peer) = listener.accept().await?;
                // A program in the guest cannot be the controller.
                if peer.cid() == VMADDR_CID_HOST {
                    return Ok(Box::new(stream));
                }
            },
        }
    }

    /// Whether several peers use one stream in turn (a device), instead of one stream each (a socket).
    pub(crate) fn is_one_stream(&self) -> bool {
        match self {
            Self::Virtio(_) => true,
            Self::Unix(_) | Self::Vsock(_) => false,
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
pub(crate) struct VirtioDevice {
    port: OwnedFd,
    wakers: Arc<Mutex<Wakers>>,
    changed: Arc<tokio::sync::Notify>,
    poll_task: tokio::task::JoinHandle<()>,
}

impl Drop for VirtioDevice {
    fn drop(&mut self) {
        self.poll_task.abort();
    }
}

impl VirtioDevice {
    fn open(path: &Path) -> io::Result<Self> {
        let port = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&watch, &port, EventData::new_u64(0), EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        let watch = async_fd::register_fd(watch, Interest::READABLE)?;
        let wakers = Arc::new(Mutex::new(Wakers::default()));
        let changed = Arc::new(tokio::sync::Notify::new());
        let poll_task = tokio::spawn(wake_on_events(watch, wakers.clone(), changed.clone()));
        Ok(Self { port, wakers, changed, poll_task })
    }

    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.port, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Waits until the other end is open on the host.
    async fn wait_for_peer(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.is_hung_up() {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(CHECK_PEER_EVERY_MS), changed).await;
        }
    }
}

/// Drains the device's epoll instance at each event and wakes reader and writer.
async fn wake_on_events(watch: AsyncFd<OwnedFd>, wakers: Arc<Mutex<Wakers>>, changed: Arc<tokio::sync::Notify>) {
    loop {
        let Ok(mut ready) = watch.readable().await else { return };
        ready.clear_ready();
        // Draining after clearing: an event between the two is reported again, also after an interrupted drain.
        drain(watch.get_ref());
        changed.notify_waiters();
        let mut wakers = wakers.lock();
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

/// The device as the stream of one peer. Ends when that peer has hung up.
struct VirtioStream {
    device: Arc<VirtioDevice>,
    ended: bool,
}

impl AsyncRead for VirtioStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        // The waker is registered first: an event between a failed read and a later registration would be lost.
        self.device.wakers.lock().reader = Some(cx.waker().clone());
        match rustix::io::read(&self.device.port, buf.initialize_unfilled()) {
            Ok(n) => {
                self.ended = n == 0 && buf.remaining() > 0;
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncWrite for VirtioStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.device.wakers.lock().writer = Some(cx.waker().clone());
        match rustix::io::write(&self.device.port, buf) {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(Errno::AGAIN | Errno::INTR) if self.device.is_hung_up() => {
                self.ended = true;
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
    fn port_is_found_by_its_name_only() {
        let class = tempfile::tempdir().unwrap();
        for (port, name) in [("vport1p1", "anteroom.agent\n"), ("vport1p2", "anteroom.controller\n")] {
            std::fs::create_dir(class.path().join(port)).unwrap();
            std::fs::write(class.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(find_port(class.path(), "anteroom.controller"), Some(PathBuf::from("/dev/vport1p2")));
        assert_eq!(find_port(class.path(), "anteroom"), None);
        assert_eq!(find_port(&class.path().join("absent"), "anteroom.controller"), None);
    }
}
