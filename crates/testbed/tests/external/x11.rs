//! An X client without a library (X11 protocol, little endian).

use anteroom_testbed::WAIT_MAX;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// Bytes of a reply's head, an event and an error.
const MESSAGE_BYTES: usize = 32;

/// A connection to a display.
pub(crate) struct X11 {
    pub(crate) stream: UnixStream,
    pub(crate) root: [u8; 4],
    /// The first of this client's resource numbers.
    pub(crate) base: u32,
}

impl X11 {
    pub(crate) async fn connect(display: u32) -> Self {
        let mut stream = UnixStream::connect(format!("/tmp/.X11-unix/X{display}")).await.unwrap();
        stream.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[0], 1, "the X server accepts the client");
        let mut setup = vec![0; usize::from(u16::from_le_bytes([head[6], head[7]])) * 4];
        stream.read_exact(&mut setup).await.unwrap();
        // The first screen follows the fixed part, the vendor's name and the pixmap formats.
        let vendor = usize::from(u16::from_le_bytes([setup[16], setup[17]]));
        let screen = 32 + vendor.next_multiple_of(4) + usize::from(setup[21]) * 8;
        let root = setup[screen..screen + 4].try_into().unwrap();
        Self { stream, root, base: u32::from_le_bytes(setup[4..8].try_into().unwrap()) }
    }

    /// The next reply or event.
    pub(crate) async fn next_message(&mut self) -> [u8; MESSAGE_BYTES] {
        let mut message = [0; MESSAGE_BYTES];
        timeout(WAIT_MAX, self.stream.read_exact(&mut message)).await.expect("an event").unwrap();
        assert_ne!(message[0], 0, "an X error: {message:?}");
        message
    }
}

/// A client that has the keyboard of a display and sees each key.
pub(crate) struct KeyWatcher(X11);

impl KeyWatcher {
    pub(crate) async fn start(display: u32) -> Self {
        let mut x11 = X11::connect(display).await;
        // GrabKeyboard on the root window, now, asynchronous.
        let grab = [&[31, 0, 4, 0][..], &x11.root, &[0, 0, 0, 0], &[1, 1, 0, 0]].concat();
        x11.stream.write_all(&grab).await.unwrap();
        let reply = x11.next_message().await;
        assert_eq!((reply[0], reply[1]), (1, 0), "the keyboard is grabbed");
        Self(x11)
    }

    /// The keysym of the next pressed key without modifiers.
    pub(crate) async fn next_keysym(&mut self) -> u32 {
        let keycode = loop {
            let event = self.0.next_message().await;
            if event[0] & 0x7f == 2 {
                break event[1];
            }
        };
        // GetKeyboardMapping of this key.
        self.0.stream.write_all(&[101, 0, 2, 0, keycode, 1, 0, 0]).await.unwrap();
        let reply = loop {
            let message = self.0.next_message().await;
            if message[0] == 1 {
                break message;
            }
        };
        let mut keysyms = vec![0; usize::from(reply[1]) * 4];
        self.0.stream.read_exact(&mut keysyms).await.unwrap();
        u32::from_le_bytes(keysyms[..4].try_into().unwrap())
    }
}
