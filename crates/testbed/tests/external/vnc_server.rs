//! An external desktop: Xtigervnc, optionally behind Debian's websockify, each in a separate process group.

use crate::{Fixture, x11::X11};
use anteroom_testbed::{WAIT_MAX, eventually};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

pub(crate) const WIDTH: u16 = 640;
pub(crate) const HEIGHT: u16 = 400;
/// The colours of the desktop: the left and the right half, and a stripe.
pub(crate) const LEFT: u32 = 0x20_4060;
pub(crate) const RIGHT: u32 = 0xff_eedd;
pub(crate) const STRIPE: u32 = 0x0a_7d33;

pub(crate) const PASSWORD: &str = "password";
/// The same password as `vncpasswd` writes it (DES with the fixed key of all VNC programs).
const PASSWORD_FILE: [u8; 8] = [0xdb, 0xd8, 0x3c, 0xfd, 0x72, 0x7a, 0x14, 0x58];

/// A file with [`PASSWORD`] for VNC servers.
pub(crate) fn vnc_password_file(fixture: &Fixture) -> PathBuf {
    let file = fixture.dir.path().join("passwd");
    std::fs::write(&file, PASSWORD_FILE).unwrap();
    file
}

/// The arguments of a VNC server that requires [`PASSWORD`].
pub(crate) fn with_password(fixture: &Fixture) -> Vec<String> {
    let file = vnc_password_file(fixture);
    ["-SecurityTypes", "VncAuth", "-PasswordFile", file.to_str().unwrap()].map(str::to_owned).into()
}

/// A free loopback port. Another process may bind it before the caller does.
pub(crate) async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A program in a separate process group, which is killed together with all processes that it started.
pub(crate) struct ProcessGroup(Child);

impl ProcessGroup {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())) {
            let _ = kill_process_group(pid, signal);
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.id()
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    pub(crate) async fn end(mut self) {
        self.signal(Signal::TERM);
        timeout(WAIT_MAX, self.0.wait()).await.expect("the program exits").unwrap();
        self.signal(Signal::KILL);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A VNC server with a painted desktop.
pub(crate) struct Vnc {
    group: ProcessGroup,
    pub(crate) at: SocketAddr,
    pub(crate) display: u32,
}

impl Vnc {
    /// Starts a server with additional arguments, and returns when it listens and is painted.
    pub(crate) async fn start(arguments: &[String]) -> Self {
        for _ in 0..5 {
            let at = free_port().await;
            if let Some(vnc) = Self::start_at(at, arguments).await {
                return vnc;
            }
        }
        panic!("no VNC server could be started");
    }

    /// `None`: another process has bound the port.
    pub(crate) async fn start_at(at: SocketAddr, arguments: &[String]) -> Option<Self> {
        let mut command = Command::new("/usr/bin/Xtigervnc");
        command
            .args(["-displayfd", "1", "-rfbport", &at.port().to_string(), "-interface", "127.0.0.1", "-AlwaysShared"])
            .args(["-nolisten", "tcp", "-ac", "-noreset", "-depth", "24", "-desktop", "a desk outside"])
            .args(["-geometry", &format!("{WIDTH}x{HEIGHT}")])
            .args(if arguments.is_empty() { &["-SecurityTypes", "None"][..] } else { &[] })
            .args(arguments)
            .stdout(Stdio::piped());
        let mut group = ProcessGroup::start(&mut command);
        let mut number = String::new();
        let mut lines = BufReader::new(group.take_stdout());
        timeout(WAIT_MAX, lines.read_line(&mut number)).await.expect("the VNC server starts").unwrap();
        let display = number.trim().parse().ok()?;
        paint(display).await;
        Some(Self { group, at, display })
    }

    /// Stops it. Afterwards the port is free, and the display is not its own any more: another server may have taken it.
    pub(crate) async fn end(self) {
        let pid = self.group.pid();
        self.group.end().await;
        let (lock, socket) = (format!("/tmp/.X{}-lock", self.display), format!("/tmp/.X11-unix/X{}", self.display));
        // A server that has just taken the display, or is giving it back, has only one of the two.
        let is_given_back = async || {
            Ok(match std::fs::read_to_string(&lock) {
                Ok(owner) => (owner.trim().parse().ok() != pid).then_some(()),
                Err(_) => (!std::path::Path::new(&socket).exists()).then_some(()),
            })
        };
        eventually("the display is given back", WAIT_MAX, is_given_back).await.unwrap();
    }
}

/// A websockify process.
pub(crate) struct Websockify {
    group: ProcessGroup,
    pub(crate) at: SocketAddr,
}

impl Websockify {
    /// Starts websockify for the VNC server `target`, and returns when it listens.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::start_with(target, &[]).await
    }

    /// Like [`Self::start`], with additional options.
    pub(crate) async fn start_with(target: SocketAddr, options: &[String]) -> Self {
        for _ in 0..5 {
            let at = free_port().await;
            if let Some(websockify) = Self::start_at(at, target, options).await {
                return websockify;
            }
        }
        panic!("no websockify could be started");
    }

    /// `None`: another process has bound the port.
    pub(crate) async fn start_at(at: SocketAddr, target: SocketAddr, options: &[String]) -> Option<Self> {
        let mut command = Command::new("/usr/bin/websockify");
        command.args(options).args([at.to_string(), target.to_string()]).stdout(Stdio::null());
        let mut group = ProcessGroup::start(&mut command);
        let deadline = Instant::now() + WAIT_MAX;
        while TcpStream::connect(at).await.is_err() {
            if group.has_ended() {
                return None;
            }
            assert!(Instant::now() < deadline, "websockify does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Some(Self { group, at })
    }

    /// Stops it. Afterwards the port is free.
    pub(crate) async fn end(self) {
        self.group.end().await;
    }
}

/// Starts a VNC server and a websockify in front of it.
pub(crate) async fn start_behind_websockify() -> (Vnc, Websockify) {
    let vnc = Vnc::start(&[]).await;
    let websockify = Websockify::start(vnc.at).await;
    (vnc, websockify)
}

/// Paints the root window.
async fn paint(display: u32) {
    let X11 { mut stream, root, base } = X11::connect(display).await;
    let half = WIDTH / 2;
    for (at, (colour, x, y, width, height)) in
        [(LEFT, 0, 0, half, HEIGHT), (RIGHT, half, 0, half, HEIGHT), (STRIPE, 0, 100, WIDTH, 50)]
            .into_iter()
            .enumerate()
    {
        let context = (base + u32::try_from(at).unwrap()).to_le_bytes();
        // CreateGC with a foreground, PolyFillRectangle.
        let create = [&[55, 0, 5, 0][..], &context, &root, &4_u32.to_le_bytes(), &colour.to_le_bytes()].concat();
        let area = [x, y, width, height].map(u16::to_le_bytes).concat();
        let fill = [&[70, 0, 5, 0][..], &root, &context, &area].concat();
        stream.write_all(&[create, fill].concat()).await.unwrap();
    }
    stream.write_all(&[43, 0, 1, 0]).await.unwrap(); // GetInputFocus: its reply follows all earlier requests
    let mut answer = [0; 32];
    timeout(WAIT_MAX, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[0], 1, "no error: {answer:?}");
}
