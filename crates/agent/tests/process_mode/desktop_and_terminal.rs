//! The desktop and terminal streams.

use crate::fixture::*;
use anteroom_wire::{
    Secret,
    agent::{
        AgentEvent, DESKTOP_AUTHORITY, Screen, TERMINAL_AUTHORITY, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER,
        TERMINAL_ROWS_HEADER, TerminalSize, ToolEvent, TypeText,
    },
};
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn open_terminal(sender: &mut Sender, id: &str) -> TokioIo<Upgraded> {
    let headers = [(TERMINAL_ID_HEADER, id), (TERMINAL_COLS_HEADER, "90"), (TERMINAL_ROWS_HEADER, "25")];
    let response = eventually("terminal ready", async || {
        let response = http_connect(sender, TERMINAL_AUTHORITY, &headers).await;
        (response.status() == StatusCode::OK).then_some(response)
    })
    .await;
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

async fn read_until(stream: &mut TokioIo<Upgraded>, text: &str) {
    let mut received = Vec::new();
    let mut buf = [0; 4096];
    let wait = async {
        while !String::from_utf8_lossy(&received).contains(text) {
            let n = stream.read(&mut buf).await.unwrap();
            assert!(n > 0, "ended without {text:?}: {}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&buf[..n]);
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect(text);
}

async fn wait_screen(sender: &mut Sender, text: &str) {
    eventually(text, async || {
        let screen: Screen = get(sender, "/screen").await;
        screen.lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn desktop_is_a_raw_stream_and_a_missing_desktop_is_reported() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let response = http_connect(&mut sender, DESKTOP_AUTHORITY, &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut desktop = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut greeting = [0; 12];
    desktop.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"RFB 003.008\n");
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut got = vec![0; sent.len()];
    let (mut read, mut write) = tokio::io::split(desktop);
    let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
    written.unwrap();
    read.unwrap();
    assert!(sent == got);
    fixture.close_desktop();
    let (status, body) = collect(http_connect(&mut sender, DESKTOP_AUTHORITY, &[]).await).await;
    assert_eq!((status, problem(&body).code.as_str()), (StatusCode::BAD_GATEWAY, "desktop_unreachable"));
}

#[tokio::test]
async fn terminal_forwards_keys_and_size() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("read line; echo \"got <$line>\"; while sleep 0.1; do stty size; done")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let mut stream = open_terminal(&mut sender, "web1").await;
    stream.write_all("grüße\r".as_bytes()).await.unwrap();
    read_until(&mut stream, "got <grüße>").await;
    read_until(&mut stream, "25 90").await;
    let size = TerminalSize { cols: 101, rows: 33 };
    let (status, _) = post(&mut sender, "/terminal/web1/size", &size).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    read_until(&mut stream, "33 101").await;
    let (status, _) = post(&mut sender, "/terminal/other/size", &size).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    drop(stream);
    let mut resize_status = async || post(&mut sender, "/terminal/web1/size", &size).await.0;
    eventually("tmux client ended", async || (resize_status().await == StatusCode::NOT_FOUND).then_some(())).await;
}

/// An unread connection may hold a few thousand small frames, and a viewer that does not read is disconnected after seconds.
#[tokio::test]
async fn output_in_small_pieces_is_collected() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "read line; i=0; while [ $i -lt 500 ]; do printf .; sleep 0.001; i=$((i+1)); done; echo finished; cat";
    fixture.claim(&mut sender, provider(script)).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let mut stream = open_terminal(&mut sender, "web1").await;
    stream.write_all(b"go\r").await.unwrap();
    let started = Instant::now();
    let (mut received, mut small_pieces) = (Vec::new(), 0);
    let mut buf = [0; 4096];
    while !String::from_utf8_lossy(&received).contains("finished") {
        let n = tokio::time::timeout(DEADLINE, stream.read(&mut buf)).await.expect("output").unwrap();
        assert!(n > 0, "ended: {}", String::from_utf8_lossy(&received));
        small_pieces += u64::from(n < 256);
        received.extend_from_slice(&buf[..n]);
    }
    // 20 at once and 20 a second; the first screen is a few more.
    let permitted = 30 + 20 * (started.elapsed().as_secs() + 1);
    assert!(small_pieces <= permitted, "{small_pieces} pieces, not {permitted}");
}

#[tokio::test]
async fn terminal_with_an_invalid_name_or_size_is_rejected() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    for (id, cols) in [("A", "80"), ("", "80"), ("a", "1"), ("a", "99999")] {
        let headers = [(TERMINAL_ID_HEADER, id), (TERMINAL_COLS_HEADER, cols), (TERMINAL_ROWS_HEADER, "25")];
        let (status, body) = collect(http_connect(&mut sender, TERMINAL_AUTHORITY, &headers).await).await;
        assert_eq!((status.as_u16(), problem(&body).code.as_str()), (400, "malformed"), "{id:?} {cols}");
    }
}

#[tokio::test]
async fn input_reaches_the_tool_unchanged() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let text = "a'b\";$(id) #{pane_id} \\ ~ ü ; kill-server";
    let input = |text: &str| TypeText { text: Secret::new(text.into()), press_enter: true };
    let (status, body) = post(&mut sender, "/input", &input(text)).await;
    assert_eq!((status, problem(&body).code.as_str()), (StatusCode::CONFLICT, "not_ready"), "not claimed yet");
    fixture.claim(&mut sender, provider("IFS= read -r line; printf '<%s>' \"$line\" > typed; cat > /dev/null")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let (status, _) = post(&mut sender, "/input", &input(text)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let typed = eventually("typed text", async || {
        std::fs::read_to_string(fixture.home("typed")).ok().filter(|t| !t.is_empty())
    });
    assert_eq!(typed.await, format!("<{text}>"));
    let (status, _) = post(&mut sender, "/input", &input("a\nb")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn terminal_shows_preparing_before_the_claim() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    eventually("the terminal", async || {
        let request = http::Request::get("http://agent/screen").body(Default::default()).unwrap();
        (send(&mut sender, request).await.status() == StatusCode::OK).then_some(())
    })
    .await;
    wait_screen(&mut sender, "Preparing").await;
}
