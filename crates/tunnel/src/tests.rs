//! Tunnels with a real server and a real WebSocket; the machine's side is an in-memory stream.

mod long_connections;

use super::*;
use anteroom_rfb::client::{ViewerSocket, WebSocketClose};
use anteroom_wire::EndReason;
use axum::{Router, extract::State, routing::get};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_tungstenite::{connect_async, tungstenite};

const SOON: Duration = Duration::from_secs(20);

type Opened = Result<DuplexStream, ProblemBody>;
type Connect = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// State of the server, for the one viewer it expects.
struct ServerState {
    settings: TunnelSettings,
    close_signal: CloseSignal,
    activity: Arc<SessionActivity>,
    connect: Mutex<Option<Connect>>,
    control: Option<mpsc::UnboundedSender<String>>,
    report: Mutex<Option<oneshot::Sender<TunnelReport>>>,
    tasks: TaskTracker,
}

/// A server with one tunnel. Stops with its runtime.
struct TestServer {
    url: String,
    close_signal: CloseSignal,
    activity: Arc<SessionActivity>,
    tasks: TaskTracker,
    report: oneshot::Receiver<TunnelReport>,
}

impl TestServer {
    async fn new(
        settings: TunnelSettings,
        control: Option<mpsc::UnboundedSender<String>>,
        connect: impl Future<Output = Opened> + Send + 'static,
    ) -> Self {
        let (report_tx, report) = oneshot::channel();
        let (close_signal, activity, tasks) =
            (CloseSignal::new(), Arc::new(SessionActivity::new()), TaskTracker::new());
        let state = ServerState {
            settings,
            close_signal: close_signal.clone(),
            activity: activity.clone(),
            connect: Mutex::new(Some(Box::pin(connect))),
            control,
            report: Mutex::new(Some(report_tx)),
            tasks: tasks.clone(),
        };
        let router =
            Router::new().route("/ws", get(desktop)).route("/rejected", get(rejected)).with_state(Arc::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, close_signal, activity, tasks, report }
    }

    /// Returns also the machine's end of the open stream.
    async fn open(settings: TunnelSettings) -> (Self, DuplexStream) {
        let (machine, stream) = duplex(64 * 1024);
        (Self::new(settings, None, async { Ok(stream) }).await, machine)
    }

    async fn viewer(&self) -> ViewerSocket {
        ViewerSocket::connect(&self.url, &[("Sec-WebSocket-Protocol", WEBSOCKET_SUBPROTOCOL)], 5_000).await.unwrap()
    }

    async fn report(self) -> TunnelReport {
        timeout(SOON, self.report).await.expect("the tunnel ends in time").unwrap()
    }
}

async fn desktop(upgrade: WebSocketUpgrade, State(state): State<Arc<ServerState>>) -> Response {
    let (settings, tasks) = (state.settings.clone(), state.tasks.clone());
    accept_websocket(upgrade, &settings, &tasks, move |socket| async move {
        let mut tunnel = Tunnel::new(state.settings.clone(), state.close_signal.clone(), state.activity.clone());
        if let Some(control) = state.control.clone() {
            tunnel = tunnel.with_text_message_handler(move |text| {
                control.send(text.to_owned()).map_err(|_| Problem::Internal.with_detail(""))
            });
        }
        let connect = state.connect.lock().unwrap().take().unwrap();
        let report = tunnel.run(socket, connect).await;
        let _ = state.report.lock().unwrap().take().unwrap().send(report);
    })
}

async fn rejected(upgrade: WebSocketUpgrade, State(state): State<Arc<ServerState>>) -> Response {
    reject_websocket(upgrade, &state.settings, &state.tasks, Problem::TooManyViewers)
}

/// Reads until the server closes and returns the close frame.
async fn wait_for_close(viewer: &mut ViewerSocket) -> Option<WebSocketClose> {
    let mut rest = Vec::new();
    timeout(SOON, viewer.read_to_end(&mut rest)).await.expect("closed in time").ok();
    viewer.close_reason().cloned()
}

fn short_timeouts() -> TunnelSettings {
    TunnelSettings {
        ping_every_ms: 50,
        pong_ms_max: 250,
        close_reason_wait_ms: 300,
        close_handshake_ms_max: 500,
        ..TunnelSettings::default()
    }
}

#[tokio::test]
async fn bytes_are_copied_in_both_directions_and_counted() {
    let (server, mut machine) = TestServer::open(TunnelSettings::default()).await;
    let mut viewer = server.viewer().await;
    viewer.write_all(b"key").await.unwrap();
    viewer.flush().await.unwrap();
    let mut received = [0; 3];
    machine.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"key");
    let picture = vec![7; 300_000];
    let written = tokio::spawn(async move {
        machine.write_all(&picture).await.unwrap();
        machine
    });
    let mut seen = vec![0; 300_000];
    viewer.read_exact(&mut seen).await.unwrap();
    assert!(seen.iter().all(|&byte| byte == 7));
    let _machine = written.await.unwrap();
    viewer.shutdown().await.unwrap();
    let report = server.report().await;
    assert_eq!((report.bytes_up, report.bytes_down), (3, 300_000));
    assert!(matches!(report.end, TunnelEnd::ViewerClosed(_)), "{report:?}");
}

#[tokio::test]
async fn bytes_sent_before_the_desktop_is_open_are_buffered() {
    let (mut machine, stream) = duplex(1024);
    let (open, opened) = oneshot::channel::<()>();
    let connect = async move {
        opened.await.unwrap();
        Ok(stream)
    };
    let server = TestServer::new(short_timeouts(), None, connect).await;
    let mut viewer = server.viewer().await;
    viewer.write_all(b"first ").await.unwrap();
    viewer.write_all(b"bytes").await.unwrap();
    viewer.flush().await.unwrap();
    let waiting = async {
        let mut byte = [0];
        viewer.read_exact(&mut byte).await.unwrap();
        byte
    };
    let opening = async {
        // Longer than pong_ms_max: keep-alive runs while the desktop is being opened.
        sleep(Duration::from_millis(600)).await;
        open.send(()).unwrap();
        let mut received = [0; 11];
        machine.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"first bytes");
        machine.write_all(b"R").await.unwrap();
    };
    let (byte, ()) = timeout(SOON, async { tokio::join!(waiting, opening) }).await.unwrap();
    assert_eq!(&byte, b"R");
}

#[tokio::test]
async fn connect_error_is_sent_in_the_close_frame() {
    let server =
        TestServer::new(short_timeouts(), None, async { Err(Problem::AgentUnreachable.with_detail("")) }).await;
    let closed = wait_for_close(&mut server.viewer().await).await.unwrap();
    assert_eq!(closed.code, 4502);
    assert!(closed.reason.starts_with("agent_unreachable: "), "{closed:?}");

    let never = TunnelSettings { connect_ms_max: 50, ..short_timeouts() };
    let server = TestServer::new(never, None, std::future::pending()).await;
    assert_eq!(wait_for_close(&mut server.viewer().await).await.unwrap().code, 4409);
}

#[tokio::test]
async fn viewer_that_only_answers_pings_stays_connected() {
    let (server, mut machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = server.viewer().await;
    // Twenty pings, four times pong_ms_max.
    let watched = timeout(Duration::from_millis(1_000), viewer.read_u8()).await;
    assert!(watched.is_err(), "nothing comes and nothing closes: {watched:?}");
    machine.write_all(b"x").await.unwrap();
    assert_eq!(timeout(SOON, viewer.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn viewer_that_does_not_answer_pings_is_disconnected() {
    let (server, _machine) = TestServer::open(short_timeouts()).await;
    let viewer = server.viewer().await; // never read, so it never answers a ping
    assert_eq!(server.report().await.end, TunnelEnd::ViewerTimeout);
    drop(viewer);
}

#[tokio::test]
async fn session_end_is_sent_as_close_code_and_reason() {
    let ends = EndReason::ALL.iter().map(|reason| CloseCause::SessionEnded(*reason));
    for cause in ends.chain([
        CloseCause::MachineReplaced,
        CloseCause::CallerRevoked,
        CloseCause::CallerExpired,
        CloseCause::HelperEnded,
        CloseCause::ViewerReplaced,
        CloseCause::ServerStopping,
    ]) {
        let problem = Problem::from(cause);
        let (server, _machine) = TestServer::open(TunnelSettings::default()).await;
        let mut viewer = server.viewer().await;
        server.close_signal.close(cause);
        let closed = wait_for_close(&mut viewer).await.unwrap();
        assert_eq!(closed.code, problem.close_code());
        assert_eq!(closed.reason, format!("{}: {}", problem.code(), problem.sentence()));
        assert_eq!(server.report().await.end, TunnelEnd::Closed(cause));
    }
}

#[tokio::test]
async fn end_of_stream_is_closed_with_the_reason_of_the_session_or_desktop_unreachable() {
    let (server, machine) = TestServer::open(TunnelSettings { close_reason_wait_ms: 20_000, ..short_timeouts() }).await;
    let mut viewer = server.viewer().await;
    drop(machine);
    let close_signal = server.close_signal.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(100)).await;
        close_signal.close(CloseCause::SessionEnded(EndReason::MachineFailed));
    });
    assert_eq!(wait_for_close(&mut viewer).await.unwrap().code, 4410);
    assert_eq!(server.report().await.end, TunnelEnd::Closed(CloseCause::SessionEnded(EndReason::MachineFailed)));

    let (server, machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = server.viewer().await;
    drop(machine);
    assert_eq!(wait_for_close(&mut viewer).await.unwrap().code, 4502);
    assert_eq!(server.report().await.end, TunnelEnd::StreamEnded(None));
}

#[tokio::test]
async fn rejected_viewer_receives_a_close_frame_with_the_cause() {
    let (server, _machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = ViewerSocket::connect(&server.url.replace("/ws", "/rejected"), &[], 5_000).await.unwrap();
    let closed = wait_for_close(&mut viewer).await.unwrap();
    assert_eq!(closed.code, 4429);
    assert!(closed.reason.starts_with("too_many_viewers: "));
}

#[tokio::test]
async fn only_the_binary_subprotocol_is_echoed_never_a_ticket() {
    let (server, _machine) = TestServer::open(short_timeouts()).await;
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(server.url.as_str()).unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "ticket.abc, binary".parse().unwrap());
    let (_socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "binary");
}

#[tokio::test]
async fn text_message_is_passed_to_control_or_rejected() {
    let (control_tx, mut received) = mpsc::unbounded_channel();
    let (_machine, stream) = duplex(1024);
    let server = TestServer::new(short_timeouts(), Some(control_tx), async { Ok(stream) }).await;
    let mut viewer = server.viewer().await;
    viewer.send_text(r#"{"type":"resize","cols":80,"rows":24}"#).await.unwrap();
    assert_eq!(timeout(SOON, received.recv()).await.unwrap().unwrap(), r#"{"type":"resize","cols":80,"rows":24}"#);

    let (server, _machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = server.viewer().await;
    viewer.send_text("hello").await.unwrap();
    assert_eq!(wait_for_close(&mut viewer).await.unwrap().code, 4400);
}

#[tokio::test]
async fn message_over_the_limit_is_rejected_as_too_large() {
    let (server, _machine) = TestServer::open(TunnelSettings { message_bytes_max: 1_000, ..short_timeouts() }).await;
    let mut viewer = server.viewer().await;
    viewer.write_all(&[0; 1_001]).await.unwrap();
    viewer.flush().await.unwrap();
    assert_eq!(wait_for_close(&mut viewer).await.unwrap().code, 4413);
    let TunnelEnd::ViewerProtocolError(body) = server.report().await.end else { panic!("expected a protocol error") };
    assert_eq!(body.code, "too_large");
}

#[tokio::test]
async fn only_messages_of_the_viewer_count_as_activity() {
    let (server, mut machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = server.viewer().await;
    let before = server.activity.last_at();
    machine.write_all(b"a cursor blinks").await.unwrap();
    let mut seen = [0; 15];
    viewer.read_exact(&mut seen).await.unwrap();
    assert_eq!(server.activity.last_at(), before);
    sleep(Duration::from_millis(5)).await;
    viewer.write_all(b"key").await.unwrap();
    viewer.flush().await.unwrap();
    machine.read_exact(&mut [0; 3]).await.unwrap();
    assert!(server.activity.last_at() > before);
}

#[tokio::test]
async fn task_tracker_waits_for_an_open_tunnel() {
    let (server, _machine) = TestServer::open(short_timeouts()).await;
    let mut viewer = server.viewer().await;
    server.tasks.close();
    assert!(timeout(Duration::from_millis(100), server.tasks.wait()).await.is_err());
    server.close_signal.close(CloseCause::ServerStopping);
    assert_eq!(wait_for_close(&mut viewer).await.unwrap().code, 4503);
    timeout(SOON, server.tasks.wait()).await.expect("the last token is released");
}

/// A desktop with unlimited output that counts the bytes read from it.
struct UnlimitedDesktop(Arc<AtomicU64>);

impl AsyncRead for UnlimitedDesktop {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = buf.remaining();
        buf.put_slice(&vec![9; count]);
        self.0.fetch_add(count as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UnlimitedDesktop {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_viewer_slows_only_its_own_stream_and_uses_little_memory() {
    let read_counts: [Arc<AtomicU64>; 2] = Default::default();
    let counts = read_counts.clone();
    let router = Router::new().route(
        "/{which}",
        get(move |upgrade: WebSocketUpgrade, which: axum::extract::Path<usize>| async move {
            let settings = TunnelSettings::default();
            let tunnel = Tunnel::new(settings.clone(), CloseSignal::new(), Arc::default());
            let desktop = UnlimitedDesktop(counts[which.0].clone());
            accept_websocket(upgrade, &settings, &TaskTracker::new(), move |socket| async move {
                tunnel.run(socket, async { Ok(desktop) }).await;
            })
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });

    let slow = stalled_viewer(at).await;
    let mut fast = ViewerSocket::connect(&format!("ws://{at}/1"), &[], 5_000).await.unwrap();
    let mut left: u64 = 100 << 20;
    let mut buffer = vec![0; 64 * 1024];
    timeout(Duration::from_secs(60), async {
        while left > 0 {
            left = left.saturating_sub(fast.read(&mut buffer).await.unwrap() as u64);
        }
    })
    .await
    .expect("100 MB reach the fast viewer");
    // The bytes for the slow viewer are in the kernel buffers of the two sockets.
    assert!(
        read_counts[0].load(Relaxed) < 16 << 20,
        "{} bytes were read for a viewer that reads nothing",
        read_counts[0].load(Relaxed)
    );
    drop(slow);
}

/// A viewer that completes the handshake and then reads nothing.
async fn stalled_viewer(at: std::net::SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let handshake = "GET /0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    socket
}
