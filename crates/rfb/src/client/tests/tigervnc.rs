//! A real server: its Tight updates show the same picture as its Raw updates.

#![allow(clippy::print_stderr, reason = "reports why the test is skipped")]

use super::*;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
};

const XTIGERVNC: &str = "/usr/bin/Xtigervnc";
const SOON: Duration = Duration::from_secs(60);

/// A virtual display. [`Self::stop`] stops it; dropping it kills it.
struct Display {
    process: Child,
    number: u32,
}

impl Display {
    /// Starts a display with the first free number and waits until it listens.
    async fn start(socket: &Path) -> Self {
        let mut process = Command::new(XTIGERVNC)
            .args(["-displayfd", "1", "-rfbport", "-1", "-SecurityTypes", "None", "-AlwaysShared", "-noreset"])
            .args(["-nolisten", "tcp", "-ac", "-depth", "24", "-geometry", "640x400", "-rfbunixpath"])
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut number = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        timeout(SOON, lines.read_line(&mut number)).await.unwrap().unwrap();
        Self { process, number: number.trim().parse().unwrap() }
    }

    fn files(&self) -> [String; 2] {
        [format!("/tmp/.X{}-lock", self.number), self.x_socket()]
    }

    fn x_socket(&self) -> String {
        format!("/tmp/.X11-unix/X{}", self.number)
    }

    /// Terminates it, so that it removes its lock file and its socket.
    async fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.process.id().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        timeout(SOON, self.process.wait()).await.unwrap().unwrap();
        for file in self.files() {
            assert!(!Path::new(&file).exists(), "{file}");
        }
    }
}

/// A minimal client of the X server that puts images on the root window (X11 protocol, little endian).
struct Painter {
    stream: UnixStream,
    root: [u8; 4],
    context: [u8; 4],
}

impl Painter {
    async fn connect(socket: &str) -> Self {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[0], 1, "the X server accepts the client");
        let mut setup = vec![0; usize::from(u16::from_le_bytes([head[6], head[7]])) * 4];
        stream.read_exact(&mut setup).await.unwrap();
        // The first screen comes after the fixed part, the vendor's name and the pixmap formats.
        let vendor = usize::from(u16::from_le_bytes([setup[16], setup[17]]));
        let screen = 32 + vendor.next_multiple_of(4) + usize::from(setup[21]) * 8;
        let root: [u8; 4] = setup[screen..screen + 4].try_into().unwrap();
        let context: [u8; 4] = setup[4..8].try_into().unwrap();
        // CreateGC, with no values.
        stream.write_all(&[&[55, 0, 4, 0][..], &context, &root, &[0; 4]].concat()).await.unwrap();
        Self { stream, root, context }
    }

    /// Sends PutImage and waits until it is done.
    async fn put(&mut self, (x, y): (u16, u16), width: u16, height: u16, colour: impl Fn(u32, u32) -> u32) {
        let length_words = 6 + width * height;
        let mut request = vec![72, 2];
        request.extend(length_words.to_le_bytes());
        request.extend([self.root, self.context].concat());
        request.extend([width, height, x, y].map(u16::to_le_bytes).concat());
        request.extend([0, 24, 0, 0]);
        for row in 0..u32::from(height) {
            request.extend((0..u32::from(width)).flat_map(|column| colour(column, row).to_le_bytes()));
        }
        request.extend([43, 0, 1, 0]); // GetInputFocus
        self.stream.write_all(&request).await.unwrap();
        let mut answer = [0; 32];
        timeout(SOON, self.stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer[0], 1, "no error: {answer:?}");
    }
}

/// Returns the whole frame and the bytes that the server sent for it.
async fn fetch_frame(socket: &Path, offered: &[Encoding]) -> (Frame, u64) {
    let (near, mut far) = duplex(1 << 16);
    let mut server = UnixStream::connect(socket).await.unwrap();
    let between = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut server).await });
    let mut client = RfbClient::connect_with_encodings(near, ANSWER_MS_MAX, offered).await.unwrap();
    let frame = client.request_full_frame().await.unwrap().clone();
    drop(client);
    let (_, from_server) = timeout(SOON, between).await.unwrap().unwrap().unwrap();
    (frame, from_server)
}

#[tokio::test]
async fn tigervnc_frames_in_tight_equal_raw_with_fewer_bytes() {
    if !Path::new(XTIGERVNC).exists() {
        eprintln!("skipped: no {XTIGERVNC}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("rfb.sock");
    let display = Display::start(&socket).await;
    let mut painter = Painter::connect(&display.x_socket()).await;
    // Rectangles with two colours, a few colours, a gradient and noise, on a background of one colour.
    painter.put((0, 0), 200, 150, |x, y| if (x / 3 + y / 5) % 2 == 0 { 0x20_4060 } else { 0xff_eedd }).await;
    painter.put((210, 0), 200, 150, |x, y| (x / 7 * 3 + y / 9) % 23 * 0x0a_0501).await;
    painter.put((420, 0), 200, 150, |x, y| x << 16 | y << 8 | ((x + y) / 2)).await;
    painter.put((50, 200), 201, 151, |x, y| (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) & 0xff_ffff).await;

    let (raw, raw_bytes) = fetch_frame(&socket, &[Encoding::Raw]).await;
    let (tight, tight_bytes) = fetch_frame(&socket, Encoding::BROWSER_DEFAULTS).await;
    let counted = [Encoding::Tight, Encoding::CompressLevel(9)]; // without LastRect: another code path of the server
    let (small, _) = fetch_frame(&socket, &counted).await;
    drop(painter);
    display.stop().await;

    assert_eq!((raw.width(), raw.height()), (640, 400));
    assert_eq!(raw.pixel(0, 0), Some(0x20_4060));
    assert!(raw.count_colours(20_000) > 10_000);
    assert!(tight == raw, "Tight differs");
    assert!(small == raw, "Tight at level 9 differs");
    assert!(raw_bytes > 640 * 400 * 4 && tight_bytes * 4 < raw_bytes, "{tight_bytes} of {raw_bytes} bytes");
}
