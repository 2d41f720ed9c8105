#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
use super::*;
use std::path::PathBuf;
use tokio::{io::DuplexStream, net::UnixListener, sync::mpsc};

const DEADLINE: Duration = Duration::from_secs(30);

/// A display server that joins what it has accepted, tells the ClientInit of each, then echoes.
struct Server {
    dir: tempfile::TempDir,
    listener: UnixListener,
}

/// What the server saw of one connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Version([u8; 12]),
    ClientInit(u8),
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("rfb.sock")).unwrap();
        Self { dir, listener }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("rfb.sock")
    }

    /// Serves one connection up to ServerInit; the server's end of it.
    async fn accept(&self, seen: &mpsc::UnboundedSender<Seen>) -> UnixStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.write_all(VERSION).await.unwrap();
        let mut version = [0; 12];
        stream.read_exact(&mut version).await.unwrap();
        seen.send(Seen::Version(version)).unwrap();
        if version != *VERSION {
            return stream;
        }
        stream.write_all(&[2, 16, 1]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        stream.write_all(&[0; 4]).await.unwrap();
        seen.send(Seen::ClientInit(stream.read_u8().await.unwrap())).unwrap();
        stream.write_all(&init()).await.unwrap();
        stream
    }

    /// A spare and the server's end of it.
    async fn spare(&self) -> (Spare, UnixStream) {
        let (seen, _all) = mpsc::unbounded_channel();
        let socket = self.socket();
        let (spare, end) = tokio::join!(Spare::join(&socket), self.accept(&seen));
        (spare.unwrap(), end)
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

/// A viewer's half: what it sends after being greeted, and all that it must be told before `ServerInit`.
async fn shake(viewer: &mut DuplexStream, shared: u8) -> Vec<u8> {
    let mut greeting = [0; 12];
    viewer.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, VERSION);
    viewer.write_all(VERSION).await.unwrap();
    let mut types = [0; 2];
    viewer.read_exact(&mut types).await.unwrap();
    assert_eq!(types, [1, 1]);
    viewer.write_all(&[1]).await.unwrap();
    assert_eq!(viewer.read_u32().await.unwrap(), 0);
    viewer.write_all(&[shared]).await.unwrap();
    let mut told = vec![0; init().len()];
    viewer.read_exact(&mut told).await.unwrap();
    told
}

#[tokio::test]
async fn a_viewer_is_seated_although_the_display_server_accepts_nobody() {
    let server = Server::new();
    let (spare, mut end) = server.spare().await;
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let (seated, told) = in_time(async { tokio::join!(seat(&mut near, spare, &socket), shake(&mut viewer, 1)) }).await;
    assert_eq!(told, init());
    seated.unwrap().write_all(b"ask").await.unwrap();
    let mut heard = [0; 3];
    end.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ask", "what follows reaches the connection that was kept");
}

#[tokio::test]
async fn of_two_viewers_at_once_one_gets_the_spare() {
    let server = Server::new();
    let (spare, _end) = server.spare().await;
    let desk = Desk::default();
    let taken = async {
        tokio::task::yield_now().await;
        tokio::join!(desk.take(), desk.take())
    };
    let (taken, ()) = in_time(async { tokio::join!(taken, desk.hold(spare)) }).await;
    assert!(taken.0.is_some() != taken.1.is_some());
    assert!(in_time(desk.take()).await.is_none());
}

#[tokio::test]
async fn a_spare_that_ended_or_spoke_is_not_handed_out() {
    let server = Server::new();
    for word in ["", "bell"] {
        let (spare, mut end) = server.spare().await;
        let desk = Desk::default();
        let holding = desk.hold(spare);
        tokio::pin!(holding);
        assert!(futures_pending(&mut holding).await, "held while nothing comes");
        end.write_all(word.as_bytes()).await.unwrap();
        drop(end);
        // Whoever asks before the reactor has noticed gets none either.
        let (taken, ()) = in_time(async { tokio::join!(desk.take(), holding) }).await;
        assert!(taken.is_none(), "after {word:?}");
    }
}

/// Whether `future` has more to wait for after one poll.
async fn futures_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::select! {
        biased;
        () = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn a_viewer_of_another_version_gets_a_connection_of_its_own() {
    let server = Server::new();
    let (spare, _end) = server.spare().await;
    let (seen, mut all) = mpsc::unbounded_channel();
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let old = *b"RFB 003.003\n";
    let talk = async {
        let mut greeting = [0; 12];
        viewer.read_exact(&mut greeting).await.unwrap();
        viewer.write_all(&old).await.unwrap();
        let mut end = server.accept(&seen).await;
        end.write_all(&[0, 0, 0, 1]).await.unwrap();
        end
    };
    let (seated, _end) = in_time(async { tokio::join!(seat(&mut near, spare, &socket), talk) }).await;
    assert_eq!(all.recv().await, Some(Seen::Version(old)));
    assert_eq!(seated.unwrap().read_u32().await.unwrap(), 1, "the display server's own security type");
}

#[tokio::test]
async fn a_viewer_that_wants_to_be_alone_joins_alone() {
    let server = Server::new();
    let (spare, _end) = server.spare().await;
    let (seen, mut all) = mpsc::unbounded_channel();
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    let (seated, told, _other) =
        in_time(async { tokio::join!(seat(&mut near, spare, &socket), shake(&mut viewer, 0), server.accept(&seen)) })
            .await;
    assert!(seated.is_ok());
    assert_eq!(told, init());
    assert_eq!(all.recv().await, Some(Seen::Version(*VERSION)));
    assert_eq!(all.recv().await, Some(Seen::ClientInit(0)));
}

#[tokio::test]
async fn a_security_type_that_was_not_offered_is_refused_in_words() {
    let server = Server::new();
    let (spare, _end) = server.spare().await;
    let (mut viewer, mut near) = tokio::io::duplex(1024);
    let socket = server.socket();
    viewer.write_all(VERSION).await.unwrap();
    viewer.write_all(&[16]).await.unwrap();
    assert!(in_time(seat(&mut near, spare, &socket)).await.is_err());
    drop(near);
    let mut told = Vec::new();
    viewer.read_to_end(&mut told).await.unwrap();
    assert_eq!(told[..14], [VERSION.as_slice(), &[1, 1]].concat());
    assert_eq!(told[14..18], [0, 0, 0, 1]);
    assert_eq!(&told[22..], NOT_OFFERED);
}
