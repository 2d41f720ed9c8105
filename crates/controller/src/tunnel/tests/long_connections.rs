//! A long time with a tunnel, in virtual time: the real server, WebSocket and tunnel over pipes in memory, the clock paused.

use super::*;
use axum::serve::Listener;
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message as Frame};

type Viewer = WebSocketStream<DuplexStream>;

const MINUTE: Duration = Duration::from_secs(60);
/// What one direction of a viewer's connection holds, as the kernel's buffers would.
const PIPE_BYTES: usize = 256 * 1024;

/// Viewers' connections that come through memory.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
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

/// One viewer's tunnel with the default settings.
struct Hours {
    viewer: Viewer,
    machine: DuplexStream,
    report: oneshot::Receiver<TunnelReport>,
}

async fn hours(connect_after: Duration) -> Hours {
    let (machine, stream) = duplex(64 * 1024);
    let (told, report) = oneshot::channel();
    let connect: Connect = Box::pin(async move {
        sleep(connect_after).await;
        Ok(stream)
    });
    let plan = Plan {
        settings: TunnelSettings::default(),
        close_signal: CloseSignal::new(),
        activity: Arc::default(),
        connect: Mutex::new(Some(connect)),
        control: None,
        report: Mutex::new(Some(told)),
        tasks: TaskTracker::new(),
    };
    let router = Router::new().route("/ws", get(desktop)).with_state(Arc::new(plan));
    let (dial, dialled) = mpsc::unbounded_channel();
    tokio::spawn(async move { axum::serve(Pipes(dialled), router).await });
    let (ours, theirs) = duplex(PIPE_BYTES);
    dial.send(theirs).unwrap();
    let (viewer, _) = client_async("ws://memory/ws", ours).await.unwrap();
    // The listener must outlive the handshake only.
    Hours { viewer, machine, report }
}

/// Reads for as long as this, answering pings as every WebSocket client does; how many there were.
async fn watch(viewer: &mut Viewer, how_long: Duration) -> u32 {
    let until = Instant::now() + how_long;
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
async fn a_viewer_that_is_idle_for_fifteen_minutes_and_answers_pings_stays_connected() {
    let Hours { mut viewer, mut machine, report } = hours(Duration::ZERO).await;
    let pings = watch(&mut viewer, 15 * MINUTE).await;
    assert!((59..=60).contains(&pings), "one every 15 s: {pings}");
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
async fn a_viewer_without_pongs_is_closed_as_idle_between_forty_five_and_sixty_seconds() {
    let settings = TunnelSettings::default();
    // A first ping, the silence that is allowed, and the next look.
    let most = settings.ping_every_ms + settings.pong_ms_max + settings.ping_every_ms;
    let least = settings.ping_every_ms + settings.pong_ms_max;
    let Hours { mut viewer, machine: _machine, report } = hours(Duration::ZERO).await;
    sleep(Duration::from_millis(least)).await;
    assert!(report.is_empty(), "not sooner");
    // It comes to itself in the time that a close may take, too late to be kept.
    sleep(Duration::from_millis(most - least + settings.close_ms_max / 2)).await;
    let mut last = None;
    while let Some(Ok(frame)) = viewer.next().await {
        if let Frame::Close(close) = frame {
            last = close;
        }
    }
    let close = last.expect("a close frame");
    assert_eq!((u16::from(close.code), close.reason.as_str().split(':').next()), (4408, Some("idle_timeout")));
    let report = report.await.unwrap();
    assert_eq!(report.end, TunnelEnd::ViewerTimeout);
    assert!((least..=most + settings.close_ms_max).contains(&report.duration_ms), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_peer_is_found_while_the_machine_has_much_to_say() {
    let settings = TunnelSettings::default();
    let Hours { viewer, mut machine, report } = hours(Duration::ZERO).await;
    // Its kernel takes what fits and nobody ever reads it.
    let flood = tokio::spawn(async move { while machine.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    let report = report.await.unwrap();
    assert_eq!(report.end, TunnelEnd::ViewerTimeout);
    let most = settings.stall_ms_max + settings.close_ms_max + 1_000;
    assert!(report.duration_ms <= most, "{report:?}");
    assert!(report.bytes_down <= (PIPE_BYTES + 2 * settings.chunk_bytes) as u64, "{report:?}");
    flood.await.unwrap();
    drop(viewer);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_reads_a_little_now_and_then_is_not_taken_for_dead() {
    let Hours { mut viewer, mut machine, report } = hours(Duration::ZERO).await;
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
async fn a_desktop_that_opens_after_fifteen_seconds_hears_all_that_was_said_before() {
    let Hours { mut viewer, mut machine, report: _report } = hours(Duration::from_secs(15)).await;
    for piece in ["RFB 003.008\n", "\u{1}", "\u{1}"] {
        viewer.send(Frame::binary(piece.as_bytes())).await.unwrap();
        sleep(Duration::from_secs(4)).await;
    }
    // Connecting and carrying are apart: pings are answered while nothing is open.
    let early = tokio::time::timeout(Duration::from_secs(1), viewer.next()).await;
    assert!(early.is_err(), "nothing yet: {early:?}");
    let mut heard = [0; 14];
    machine.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"RFB 003.008\n\x01\x01");
    machine.write_all(b"R").await.unwrap();
    assert_eq!(next_bytes(&mut viewer).await, b"R");
}
