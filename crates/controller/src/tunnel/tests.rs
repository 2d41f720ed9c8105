//! Tunnels behind a real server and a real WebSocket; the machine's side is a pair of pipes.

mod long_connections;

use super::*;
use crate::rfb::{Closing, ViewerSocket};
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

/// What the server does with the one viewer it expects.
struct Plan {
    settings: TunnelSettings,
    close_signal: CloseSignal,
    activity: Arc<Activity>,
    connect: Mutex<Option<Connect>>,
    control: Option<mpsc::UnboundedSender<String>>,
    report: Mutex<Option<oneshot::Sender<TunnelReport>>>,
    tasks: TaskTracker,
}

/// A server with one tunnel. Stops with its runtime.
struct Stand {
    url: String,
    close_signal: CloseSignal,
    activity: Arc<Activity>,
    tasks: TaskTracker,
    report: oneshot::Receiver<TunnelReport>,
}

impl Stand {
    async fn new(
        settings: TunnelSettings,
        control: Option<mpsc::UnboundedSender<String>>,
        connect: impl Future<Output = Opened> + Send + 'static,
    ) -> Self {
        let (told, report) = oneshot::channel();
        let (close_signal, activity, tasks) = (CloseSignal::new(), Arc::new(Activity::new()), TaskTracker::new());
        let plan = Plan {
            settings,
            close_signal: close_signal.clone(),
            activity: activity.clone(),
            connect: Mutex::new(Some(Box::pin(connect))),
            control,
            report: Mutex::new(Some(told)),
            tasks: tasks.clone(),
        };
        let router =
            Router::new().route("/ws", get(desktop)).route("/refused", get(refused)).with_state(Arc::new(plan));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, close_signal, activity, tasks, report }
    }

    /// With the machine's end of the stream already there.
    async fn open(settings: TunnelSettings) -> (Self, DuplexStream) {
        let (machine, stream) = duplex(64 * 1024);
        (Self::new(settings, None, async { Ok(stream) }).await, machine)
    }

    async fn viewer(&self) -> ViewerSocket {
        ViewerSocket::dial(&self.url, &[("Sec-WebSocket-Protocol", SUBPROTOCOL)], 5_000).await.unwrap()
    }

    async fn report(self) -> TunnelReport {
        timeout(SOON, self.report).await.expect("the tunnel ends in time").unwrap()
    }
}

async fn desktop(upgrade: WebSocketUpgrade, State(plan): State<Arc<Plan>>) -> Response {
    let (settings, tasks) = (plan.settings.clone(), plan.tasks.clone());
    accept(upgrade, &settings, &tasks, move |socket| async move {
        let mut tunnel = Tunnel::new(plan.settings.clone(), plan.close_signal.clone(), plan.activity.clone());
        if let Some(control) = plan.control.clone() {
            tunnel =
                tunnel.with_control(move |text| control.send(text.to_owned()).map_err(|_| Problem::Internal.with("")));
        }
        let connect = plan.connect.lock().unwrap().take().unwrap();
        let report = tunnel.run(socket, connect).await;
        let _ = plan.report.lock().unwrap().take().unwrap().send(report);
    })
}

async fn refused(upgrade: WebSocketUpgrade, State(plan): State<Arc<Plan>>) -> Response {
    refuse(upgrade, &plan.settings, &plan.tasks, Problem::TooManyViewers)
}

/// Reads until the server closes, and returns how.
async fn closing(viewer: &mut ViewerSocket) -> Option<Closing> {
    let mut rest = Vec::new();
    timeout(SOON, viewer.read_to_end(&mut rest)).await.expect("closed in time").ok();
    viewer.closing().cloned()
}

fn quick() -> TunnelSettings {
    TunnelSettings {
        ping_every_ms: 50,
        pong_ms_max: 250,
        close_reason_wait_ms: 300,
        close_ms_max: 500,
        ..TunnelSettings::default()
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted() {
    let (stand, mut machine) = Stand::open(TunnelSettings::default()).await;
    let mut viewer = stand.viewer().await;
    viewer.write_all(b"key").await.unwrap();
    viewer.flush().await.unwrap();
    let mut heard = [0; 3];
    machine.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"key");
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
    let report = stand.report().await;
    assert_eq!((report.bytes_up, report.bytes_down), (3, 300_000));
    assert!(matches!(report.end, TunnelEnd::ViewerClosed(_)), "{report:?}");
}

#[tokio::test]
async fn what_a_viewer_sends_before_the_desktop_is_open_is_kept() {
    let (mut machine, stream) = duplex(1024);
    let (open, opened) = oneshot::channel::<()>();
    let connect = async move {
        opened.await.unwrap();
        Ok(stream)
    };
    let stand = Stand::new(quick(), None, connect).await;
    let mut viewer = stand.viewer().await;
    viewer.write_all(b"early ").await.unwrap();
    viewer.write_all(b"bird").await.unwrap();
    viewer.flush().await.unwrap();
    let waiting = async {
        let mut byte = [0];
        viewer.read_exact(&mut byte).await.unwrap();
        byte
    };
    let opening = async {
        // Longer than a viewer may be silent: keep-alive runs while the desktop is being opened.
        sleep(Duration::from_millis(600)).await;
        open.send(()).unwrap();
        let mut heard = [0; 10];
        machine.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"early bird");
        machine.write_all(b"R").await.unwrap();
    };
    let (byte, ()) = timeout(SOON, async { tokio::join!(waiting, opening) }).await.unwrap();
    assert_eq!(&byte, b"R");
}

#[tokio::test]
async fn a_desktop_that_cannot_be_opened_is_named_in_the_close() {
    let stand = Stand::new(quick(), None, async { Err(Problem::AgentUnreachable.with("")) }).await;
    let closed = closing(&mut stand.viewer().await).await.unwrap();
    assert_eq!(closed.code, 4502);
    assert!(closed.reason.starts_with("agent_unreachable: "), "{closed:?}");

    let never = TunnelSettings { connect_ms_max: 50, ..quick() };
    let stand = Stand::new(never, None, std::future::pending()).await;
    assert_eq!(closing(&mut stand.viewer().await).await.unwrap().code, 4409);
}

#[tokio::test]
async fn a_viewer_that_only_answers_pings_stays_connected() {
    let (stand, mut machine) = Stand::open(quick()).await;
    let mut viewer = stand.viewer().await;
    // Twenty pings and four times the silence that is allowed.
    let watched = timeout(Duration::from_millis(1_000), viewer.read_u8()).await;
    assert!(watched.is_err(), "nothing comes and nothing closes: {watched:?}");
    machine.write_all(b"x").await.unwrap();
    assert_eq!(timeout(SOON, viewer.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn a_viewer_without_a_sign_of_life_is_let_go() {
    let (stand, _machine) = Stand::open(quick()).await;
    let viewer = stand.viewer().await; // never read, so it never answers a ping
    assert_eq!(stand.report().await.end, TunnelEnd::ViewerTimeout);
    drop(viewer);
}

#[tokio::test]
async fn the_end_of_a_session_reaches_the_viewer_as_code_and_reason() {
    for problem in [Problem::SessionEnded, Problem::MachineReplaced, Problem::Completed, Problem::ShuttingDown] {
        let (stand, _machine) = Stand::open(TunnelSettings::default()).await;
        let mut viewer = stand.viewer().await;
        stand.close_signal.close(problem);
        let closed = closing(&mut viewer).await.unwrap();
        assert_eq!(closed.code, problem.close_code());
        assert_eq!(closed.reason, format!("{}: {}", problem.code(), problem.sentence()));
        assert_eq!(stand.report().await.end, TunnelEnd::SessionEnded(problem));
    }
}

#[tokio::test]
async fn a_machine_that_ends_is_explained_by_the_session_or_else_as_unreachable() {
    let (stand, machine) = Stand::open(TunnelSettings { close_reason_wait_ms: 20_000, ..quick() }).await;
    let mut viewer = stand.viewer().await;
    drop(machine);
    let close_signal = stand.close_signal.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(100)).await;
        close_signal.close(Problem::MachineFailed);
    });
    assert_eq!(closing(&mut viewer).await.unwrap().code, 4410);
    assert_eq!(stand.report().await.end, TunnelEnd::SessionEnded(Problem::MachineFailed));

    let (stand, machine) = Stand::open(quick()).await;
    let mut viewer = stand.viewer().await;
    drop(machine);
    assert_eq!(closing(&mut viewer).await.unwrap().code, 4502);
    assert_eq!(stand.report().await.end, TunnelEnd::StreamEnded(None));
}

#[tokio::test]
async fn a_refused_viewer_is_accepted_and_closed_with_the_cause() {
    let (stand, _machine) = Stand::open(quick()).await;
    let mut viewer = ViewerSocket::dial(&stand.url.replace("/ws", "/refused"), &[], 5_000).await.unwrap();
    let closed = closing(&mut viewer).await.unwrap();
    assert_eq!(closed.code, 4429);
    assert!(closed.reason.starts_with("too_many_viewers: "));
}

#[tokio::test]
async fn only_the_binary_subprotocol_is_echoed_never_a_ticket() {
    let (stand, _machine) = Stand::open(quick()).await;
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(stand.url.as_str()).unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "ticket.abc, binary".parse().unwrap());
    let (_socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "binary");
}

#[tokio::test]
async fn text_is_control_where_there_is_one_and_an_error_elsewhere() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let (_machine, stream) = duplex(1024);
    let stand = Stand::new(quick(), Some(said), async { Ok(stream) }).await;
    let mut viewer = stand.viewer().await;
    viewer.send_text(r#"{"type":"resize","cols":80,"rows":24}"#).await.unwrap();
    assert_eq!(timeout(SOON, heard.recv()).await.unwrap().unwrap(), r#"{"type":"resize","cols":80,"rows":24}"#);

    let (stand, _machine) = Stand::open(quick()).await;
    let mut viewer = stand.viewer().await;
    viewer.send_text("hello").await.unwrap();
    assert_eq!(closing(&mut viewer).await.unwrap().code, 4400);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_by_name() {
    let (stand, _machine) = Stand::open(TunnelSettings { message_bytes_max: 1_000, ..quick() }).await;
    let mut viewer = stand.viewer().await;
    viewer.write_all(&[0; 1_001]).await.unwrap();
    viewer.flush().await.unwrap();
    assert_eq!(closing(&mut viewer).await.unwrap().code, 4413);
    let TunnelEnd::ViewerProtocolError(body) = stand.report().await.end else { panic!("refused") };
    assert_eq!(body.code, "too_large");
}

#[tokio::test]
async fn only_what_a_viewer_sends_counts_as_use() {
    let (stand, mut machine) = Stand::open(quick()).await;
    let mut viewer = stand.viewer().await;
    let before = stand.activity.last();
    machine.write_all(b"a cursor blinks").await.unwrap();
    let mut seen = [0; 15];
    viewer.read_exact(&mut seen).await.unwrap();
    assert_eq!(stand.activity.last(), before);
    sleep(Duration::from_millis(5)).await;
    viewer.write_all(b"key").await.unwrap();
    viewer.flush().await.unwrap();
    machine.read_exact(&mut [0; 3]).await.unwrap();
    assert!(stand.activity.last() > before);
}

#[tokio::test]
async fn the_tracker_waits_for_a_tunnel_that_is_open() {
    let (stand, _machine) = Stand::open(quick()).await;
    let mut viewer = stand.viewer().await;
    stand.tasks.close();
    assert!(timeout(Duration::from_millis(100), stand.tasks.wait()).await.is_err());
    stand.close_signal.close(Problem::ShuttingDown);
    assert_eq!(closing(&mut viewer).await.unwrap().code, 4503);
    timeout(SOON, stand.tasks.wait()).await.expect("the last token is gone");
}

/// A desktop that always has more to show, and counts what was taken.
struct Endless(Arc<AtomicU64>);

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = buf.remaining();
        buf.put_slice(&vec![9; count]);
        self.0.fetch_add(count as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
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
async fn a_slow_viewer_slows_only_itself_and_holds_little_memory() {
    let taken: [Arc<AtomicU64>; 2] = Default::default();
    let counts = taken.clone();
    let router = Router::new().route(
        "/{which}",
        get(move |upgrade: WebSocketUpgrade, which: axum::extract::Path<usize>| async move {
            let settings = TunnelSettings::default();
            let tunnel = Tunnel::new(settings.clone(), CloseSignal::new(), Arc::default());
            let desktop = Endless(counts[which.0].clone());
            accept(upgrade, &settings, &TaskTracker::new(), move |socket| async move {
                tunnel.run(socket, async { Ok(desktop) }).await;
            })
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });

    let slow = deaf_viewer(at).await;
    let mut fast = ViewerSocket::dial(&format!("ws://{at}/1"), &[], 5_000).await.unwrap();
    let mut left: u64 = 100 << 20;
    let mut buffer = vec![0; 64 * 1024];
    timeout(Duration::from_secs(60), async {
        while left > 0 {
            left = left.saturating_sub(fast.read(&mut buffer).await.unwrap() as u64);
        }
    })
    .await
    .expect("100 MB reach the fast viewer");
    // What the slow one was given lies in the two sockets' buffers (the kernel's bound), not in ours.
    assert!(
        taken[0].load(Relaxed) < 16 << 20,
        "{} bytes were taken for a viewer that reads nothing",
        taken[0].load(Relaxed)
    );
    drop(slow);
}

/// A viewer that shakes hands and then reads nothing at all.
async fn deaf_viewer(at: std::net::SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let handshake = "GET /0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    socket
}
