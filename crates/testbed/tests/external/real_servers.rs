//! VNC servers of Debian: x11vnc on Xvfb, TightVNC, QEMU. Each is a separate process group.

use crate::{
    Fixture,
    vnc_server::{PASSWORD, ProcessGroup, free_port, vnc_password_file},
};
use anteroom_testbed::WAIT_MAX;
use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpStream, UnixStream},
    process::Command,
    time::{Instant, sleep, timeout},
};

/// Waits until the server accepts connections; `false`: it has ended, for example because another process has its port.
async fn wait_listening(group: &mut ProcessGroup, at: SocketAddr) -> bool {
    let deadline = Instant::now() + WAIT_MAX;
    while TcpStream::connect(at).await.is_err() {
        if group.has_ended() {
            return false;
        }
        assert!(Instant::now() < deadline, "the server does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    true
}

/// x11vnc, which shows an Xvfb.
pub(crate) struct X11Vnc {
    xvfb: ProcessGroup,
    group: ProcessGroup,
    pub(crate) at: SocketAddr,
    pub(crate) display: u32,
}

impl X11Vnc {
    pub(crate) const SIZE: (u16, u16) = (1367, 769);

    pub(crate) async fn start(fixture: &Fixture, has_password: bool) -> Self {
        let mut command = Command::new("/usr/bin/Xvfb");
        let screen = format!("{}x{}x24", Self::SIZE.0, Self::SIZE.1);
        command.args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp", "-ac", "-noreset"]);
        let mut xvfb = ProcessGroup::start(command.stdout(Stdio::piped()));
        let mut number = String::new();
        let mut lines = BufReader::new(xvfb.take_stdout());
        timeout(WAIT_MAX, lines.read_line(&mut number)).await.expect("Xvfb starts").unwrap();
        let display: u32 = number.trim().parse().unwrap();
        for _ in 0..5 {
            let at = free_port().await;
            let mut command = Command::new("/usr/bin/x11vnc");
            command
                .args(["-display", &format!(":{display}"), "-rfbport", &at.port().to_string(), "-localhost"])
                .args(["-forever", "-shared", "-norc", "-no6", "-noipv6", "-nobell"])
                .stdout(Stdio::null());
            if has_password {
                command.args(["-rfbauth".as_ref(), vnc_password_file(fixture).as_os_str()]);
            } else {
                command.arg("-nopw");
            }
            let mut group = ProcessGroup::start(&mut command);
            if wait_listening(&mut group, at).await {
                return Self { xvfb, group, at, display };
            }
        }
        panic!("no x11vnc could be started");
    }

    pub(crate) async fn end(self) {
        self.group.end().await;
        self.xvfb.end().await;
    }
}

/// TightVNC's X server.
pub(crate) struct TightVnc {
    group: ProcessGroup,
    pub(crate) at: SocketAddr,
    pub(crate) display: u32,
}

impl TightVnc {
    pub(crate) const SIZE: (u16, u16) = (800, 600);

    /// It takes a number of a display, which another process may take at the same time.
    pub(crate) async fn start(fixture: &Fixture, has_password: bool) -> Self {
        let first = 200 + std::process::id() % 1_000;
        for display in (first..first + 200).filter(|display| !is_display(*display)) {
            let at = free_port().await;
            let mut command = Command::new("/usr/bin/Xtightvnc");
            command
                .args([&format!(":{display}"), "-rfbport", &at.port().to_string(), "-localhost", "-alwaysshared"])
                .args(["-geometry", &format!("{}x{}", Self::SIZE.0, Self::SIZE.1), "-depth", "24", "-ac"])
                .args(["-desktop", "a desk outside"])
                .stdout(Stdio::null());
            if has_password {
                command.args(["-rfbauth".as_ref(), vnc_password_file(fixture).as_os_str()]);
            }
            let mut group = ProcessGroup::start(&mut command);
            if wait_listening(&mut group, at).await && wait_display(&mut group, display).await {
                return Self { group, at, display };
            }
        }
        panic!("no TightVNC server could be started");
    }

    pub(crate) async fn end(self) {
        self.group.end().await;
    }
}

/// Waits until the X server accepts clients; `false`: it has ended.
async fn wait_display(group: &mut ProcessGroup, display: u32) -> bool {
    let deadline = Instant::now() + WAIT_MAX;
    while UnixStream::connect(format!("/tmp/.X11-unix/X{display}")).await.is_err() {
        if group.has_ended() {
            return false;
        }
        assert!(Instant::now() < deadline, "the X server does not accept clients");
        sleep(Duration::from_millis(20)).await;
    }
    true
}

fn is_display(number: u32) -> bool {
    Path::new(&format!("/tmp/.X11-unix/X{number}")).exists() || Path::new(&format!("/tmp/.X{number}-lock")).exists()
}

/// QEMU with a halted machine, whose picture is that of a display which is not set up yet.
pub(crate) struct Qemu {
    group: ProcessGroup,
    pub(crate) at: SocketAddr,
}

impl Qemu {
    pub(crate) const SIZE: (u16, u16) = (640, 480);

    pub(crate) async fn start(fixture: &Fixture, has_password: bool) -> Self {
        for _ in 0..20 {
            let at = free_port().await;
            // QEMU counts its displays from port 5900.
            let Some(display) = at.port().checked_sub(5900) else { continue };
            let mut command = Command::new("/usr/bin/qemu-system-x86_64");
            command.args(["-S", "-nodefaults", "-vga", "std", "-m", "64", "-display", "none", "-accel", "tcg"]);
            if has_password {
                let file = fixture.token_file("qemu-password", PASSWORD);
                command.args(["-object", &format!("secret,id=password,file={}", file.display())]);
                command.args(["-vnc", &format!("127.0.0.1:{display},password-secret=password")]);
            } else {
                command.args(["-vnc", &format!("127.0.0.1:{display}")]);
            }
            let mut group = ProcessGroup::start(command.stdout(Stdio::null()));
            if wait_listening(&mut group, at).await {
                return Self { group, at };
            }
        }
        panic!("no QEMU could be started");
    }

    pub(crate) async fn end(self) {
        self.group.end().await;
    }
}
