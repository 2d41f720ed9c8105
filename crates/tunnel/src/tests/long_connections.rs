//! Tunnels that are open for minutes, with a paused clock: the real server, WebSocket and tunnel over in-memory streams.

use super::*;
use axum::serve::Listener;
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message as Frame};

type Viewer = WebSocketStream<DuplexStream>;

const MINUTE: Duration = Duration::from_secs(60);
/// Buffer of one direction of a viewer's connection, as a kernel buffer.
const PIPE_BYTES: usize = 256 * 1024;

/// A listener whose connections are in-memory streams.
struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for MemoryListener {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A viewer with a tunnel that has the default settings.
struct LongConnection {
    viewer: Viewer,
    machine: DuplexStream,
    report: oneshot::Receiver<TunnelReport>,
}

async fn connect_viewer(connect_after: Duration) -> LongConnection {
    let (machine, stream) = duplex(64 * 1024);
    let (report_tx, report) = oneshot::channel();
    let connect: Connect = Box::pin(async move {
        sleep(connect_after).await;
        Ok(stream)
    });
    let state = ServerState {
        settings: TunnelSettings::default(),
        close_signal: CloseSignal::new(),
        activity: Arc::default(),
        connect: Mutex::new(Some(connect)),
        control: None,
        report: Mutex::new(Some(report_tx)),
        tasks: TaskTracker::new(),
    };
    let router = Router::new().route("/ws", get(desktop)).with_state(Arc::new(state));
    let (dial, dialled) = mpsc::unbounded_channel();
    tokio::spawn(async move { axum::serve(MemoryListener(dialled), router).await });
    let (ours, theirs) = duplex(PIPE_BYTES);
    dial.send(theirs).unwrap();
    let (viewer, _) = client_async("ws://memory/ws", ours).await.unwrap();
    // The listener must outlive the handshake only.
    LongConnection { viewer, machine, report }
}

/// Reads for this time, answers pings as every WebSocket client does, and returns the number of pings.
async fn count_pings(viewer: &mut Viewer, duration: Duration) -> u32 {
    let until = Instant::now() + duration;
    let mut pings = 0;
    while let Ok(frame) = tokio::time::timeout_at(until, viewer.next()).await {
        match frame {
            Some(Ok(Frame::Ping(_))) => pings += 1,
            other => panic!("{other:?} after {pings} pings"),
        }
    }
    pings
}

async fn next_bytes(viewer: &mut Viewer) -> Vec<u8> {
    loop {
        match viewer.next().await {
            Some(Ok(Frame::Binary(bytes))) => return bytes.to_vec(),
            Some(Ok(Frame::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn idle_viewer_that_answers_pings_stays_connected_for_fifteen_minutes() {
    let LongConnection { mut viewer, mut machine, report } = connect_viewer(Duration::ZERO).await;
    let pings = count_pings(&mut viewer, 15 * MINUTE).await;
    assert!((111..=112).contains(&pings), "one every 8 s: {pings}");
    machine.write_all(b"picture").await.unwrap();
    assert_eq!(next_bytes(&mut viewer).await, b"picture");
    viewer.send(Frame::binary(&b"key"[..])).await.unwrap();
    let mut key = [0; 3];
    machine.read_exact(&mut key).await.unwrap();
    assert_eq!(&key, b"key");
    viewer.close(None).await.unwrap();
    let report = report.await.unwrap();
    assert!(matches!(report.end, TunnelEnd::ViewerClosed(_)), "{report:?}");
    assert!(report.duration_ms >= 900_000);
}

#[tokio::test(start_paused = true)]
async fn viewer_without_pongs_is_closed_as_idle_after_38_to_40_seconds() {
    let settings = TunnelSettings::default();
    // The check at the first ping that is later than pong_ms_max after the first one.
    let most = settings.ping_every_ms * (settings.pong_ms_max / settings.ping_every_ms + 2);
    let least = settings.ping_every_ms + settings.pong_ms_max;
    let LongConnection { mut viewer, machine: _machine, report } = connect_viewer(Duration::ZERO).await;
    sleep(Duration::from_millis(least)).await;
    assert!(report.is_empty(), "not sooner");
    // It answers within the time of the close handshake: too late to stay connected.
    sleep(Duration::from_millis(most - least + settings.close_handshake_ms_max / 2)).await;
    let mut close = None;
    while let Some(Ok(frame)) = viewer.next().await {
        if let Frame::Close(frame) = frame {
            close = frame;
        }
    }
    let close = close.expect("a close frame");
    assert_eq!((u16::from(close.code), close.reason.as_str().split(':').next()), (4408, Some("idle_timeout")));
    let report = report.await.unwrap();
    assert_eq!(report.end, TunnelEnd::ViewerTimeout);
    assert!((least..=most + settings.close_handshake_ms_max).contains(&report.duration_ms), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn half_open_viewer_connection_is_detected_while_the_machine_sends_data() {
    let settings = TunnelSettings::default();
    let LongConnection { viewer, mut machine, report } = connect_viewer(Duration::ZERO).await;
    // The viewer's kernel buffer fills and is never read.
    let flood = tokio::spawn(async move { while machine.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    let report = report.await.unwrap();
    assert_eq!(report.end, TunnelEnd::ViewerTimeout);
    let most = settings.stall_ms_max + settings.close_handshake_ms_max + 1_000;
    assert!(report.duration_ms <= most, "{report:?}");
    assert!(report.bytes_down <= (PIPE_BYTES + 2 * settings.chunk_bytes) as u64, "{report:?}");
    flood.await.unwrap();
    drop(viewer);
}

#[tokio::test(start_paused = true)]
async fn viewer_that_reads_slowly_stays_connected() {
    let LongConnection { mut viewer, mut machine, report } = connect_viewer(Duration::ZERO).await;
    let flood = tokio::spawn(async move { while machine.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    for _ in 0..30 {
        sleep(Duration::from_secs(30)).await;
        next_bytes(&mut viewer).await;
    }
    drop(viewer);
    assert_eq!(report.await.unwrap().end, TunnelEnd::ViewerLost);
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn desktop_that_opens_after_fifteen_seconds_receives_all_bytes_sent_before() {
    let LongConnection { mut viewer, mut machine, report: _report } = connect_viewer(Duration::from_secs(15)).await;
    for piece in ["RFB 003.008\n", "\u{1}", "\u{1}"] {
        viewer.send(Frame::binary(piece.as_bytes())).await.unwrap();
        sleep(Duration::from_secs(4)).await;
    }
    // Pings are answered while the stream is not open; nothing else is received yet.
    count_pings(&mut viewer, Duration::from_secs(1)).await;
    let mut received = [0; 14];
    machine.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"RFB 003.008\n\x01\x01");
    machine.write_all(b"R").await.unwrap();
    assert_eq!(next_bytes(&mut viewer).await, b"R");
}
