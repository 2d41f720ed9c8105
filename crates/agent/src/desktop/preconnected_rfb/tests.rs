#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
use super::*;
use std::path::PathBuf;
use tokio::{io::DuplexStream, net::UnixListener, sync::mpsc};

const DEADLINE: Duration = Duration::from_secs(30);

/// A display server that completes the handshake of accepted connections and reports their ClientInit.
struct DisplayServer {
    dir: tempfile::TempDir,
    listener: UnixListener,
}

/// A message that the server received.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    Version([u8; 12]),
    ClientInit(u8),
}

impl DisplayServer {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("rfb.sock")).unwrap();
        Self { dir, listener }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("rfb.sock")
    }

    /// Serves one connection up to ServerInit. Returns the server's end of it.
    async fn accept(&self, received: &mpsc::UnboundedSender<Received>) -> UnixStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.write_all(PROTOCOL_VERSION).await.unwrap();
        let mut version = [0; 12];
        stream.read_exact(&mut version).await.unwrap();
        received.send(Received::Version(version)).unwrap();
        if version != *PROTOCOL_VERSION {
            return stream;
        }
        stream.write_all(&[2, 16, 1]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        stream.write_all(&[0; 4]).await.unwrap();
        received.send(Received::ClientInit(stream.read_u8().await.unwrap())).unwrap();
        stream.write_all(&init()).await.unwrap();
        stream
    }

    /// A preconnected stream and the server's end of it.
    async fn preconnected(&self) -> (PreconnectedRfb, UnixStream) {
        let (received, _all) = mpsc::unbounded_channel();
        let socket = self.socket();
        let (preconnected, end) = tokio::join!(PreconnectedRfb::connect(&socket), self.accept(&received));
        (preconnected.unwrap(), end)
    }
}

fn init() -> Vec<u8> {
    let mut init = vec![5, 0, 3, 32];
    init.extend([9; 16]);
    init.extend([0, 0, 0, 4]);
    init.extend(b"Desk");
    init
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

/// A viewer's part of the handshake. Returns the `ServerInit` message.
async fn viewer_handshake(viewer: &mut DuplexStream, shared: u8) -> Vec<u8> {
    let mut greeting = [0; 12];
    viewer.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, PROTOCOL_VERSION);
    viewer.write_all(PROTOCOL_VERSION).await.unwrap();
    let mut types = [0; 2];
    viewer.read_exact(&mut types).await.unwrap();
    assert_eq!(types, [1, 1]);
    viewer.write_all(&[1]).await.unwrap();
    assert_eq!(viewer.read_u32().await.unwrap(), 0);
    viewer.write_all(&[shared]).await.unwrap();
    let mut server_init = vec![0; init().len()];
    viewer.read_exact(&mut server_init).await.unwrap();
    server_init
}

#[tokio::test]
async fn viewer_connects_although_the_display_server_accepts_no_connection() {
    let server = DisplayServer::new();
    let (preconnected, mut end) = server.preconnected().await;
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let (connected, server_init) = in_time(async {
        tokio::join!(connect_viewer(&mut near, preconnected, &socket), viewer_handshake(&mut viewer, 1))
    })
    .await;
    assert_eq!(server_init, init());
    connected.unwrap().write_all(b"ask").await.unwrap();
    let mut bytes = [0; 3];
    end.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ask", "later bytes reach the preconnected stream");
}

#[tokio::test]
async fn only_one_of_two_viewers_gets_the_preconnected_stream() {
    let server = DisplayServer::new();
    let (preconnected, _end) = server.preconnected().await;
    let slot = PreconnectedRfbSlot::default();
    let taken = async {
        tokio::task::yield_now().await;
        tokio::join!(slot.take(), slot.take())
    };
    let (taken, ()) = in_time(async { tokio::join!(taken, slot.offer(preconnected)) }).await;
    assert!(taken.0.is_some() != taken.1.is_some());
    assert!(in_time(slot.take()).await.is_none());
}

#[tokio::test]
async fn preconnected_stream_that_ended_or_received_bytes_is_not_handed_over() {
    let server = DisplayServer::new();
    for text in ["", "bell"] {
        let (preconnected, mut end) = server.preconnected().await;
        let slot = PreconnectedRfbSlot::default();
        let offering = slot.offer(preconnected);
        tokio::pin!(offering);
        assert!(is_pending(&mut offering).await, "offered while nothing arrives");
        end.write_all(text.as_bytes()).await.unwrap();
        drop(end);
        // A request before the async runtime has detected it gets no connection either.
        let (taken, ()) = in_time(async { tokio::join!(slot.take(), offering) }).await;
        assert!(taken.is_none(), "after {text:?}");
    }
}

/// Whether `future` is pending after one poll.
async fn is_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::select! {
        biased;
        () = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn viewer_of_another_version_gets_a_new_connection() {
    let server = DisplayServer::new();
    let (preconnected, _end) = server.preconnected().await;
    let (received, mut all) = mpsc::unbounded_channel();
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let old = *b"RFB 003.003\n";
    let talk = async {
        let mut greeting = [0; 12];
        viewer.read_exact(&mut greeting).await.unwrap();
        viewer.write_all(&old).await.unwrap();
        let mut end = server.accept(&received).await;
        end.write_all(&[0, 0, 0, 1]).await.unwrap();
        end
    };
    let (connected, _end) =
        in_time(async { tokio::join!(connect_viewer(&mut near, preconnected, &socket), talk) }).await;
    assert_eq!(all.recv().await, Some(Received::Version(old)));
    assert_eq!(connected.unwrap().read_u32().await.unwrap(), 1, "the display server's own security type");
}

#[tokio::test]
async fn exclusive_viewer_gets_an_exclusive_connection() {
    let server = DisplayServer::new();
    let (preconnected, _end) = server.preconnected().await;
    let (received, mut all) = mpsc::unbounded_channel();
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let (connected, server_init, _other) = in_time(async {
        tokio::join!(
            connect_viewer(&mut near, preconnected, &socket),
            viewer_handshake(&mut viewer, 0),
            server.accept(&received)
        )
    })
    .await;
    assert!(connected.is_ok());
    assert_eq!(server_init, init());
    assert_eq!(all.recv().await, Some(Received::Version(*PROTOCOL_VERSION)));
    assert_eq!(all.recv().await, Some(Received::ClientInit(0)));
}

#[tokio::test]
async fn security_type_that_was_not_offered_is_rejected_with_a_reason() {
    let server = DisplayServer::new();
    let (preconnected, _end) = server.preconnected().await;
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    viewer.write_all(PROTOCOL_VERSION).await.unwrap();
    viewer.write_all(&[16]).await.unwrap();
    assert!(in_time(connect_viewer(&mut near, preconnected, &socket)).await.is_err());
    drop(near);
    let mut bytes = Vec::new();
    viewer.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes[..14], [PROTOCOL_VERSION.as_slice(), &[1, 1]].concat());
    assert_eq!(bytes[14..18], [0, 0, 0, 1]);
    assert_eq!(&bytes[22..], NOT_OFFERED.as_bytes());
}
