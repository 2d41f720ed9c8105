//! The HTTP proxy for programs in the machine.

use crate::fixture::*;
use anteroom_wire::agent::EgressBy;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// The proxy's address from the tool's environment.
async fn proxy_address(fixture: &AgentFixture, sender: &mut Sender) -> SocketAddr {
    fixture.claim(sender, provider("printf %s \"$https_proxy\" > proxy; cat >/dev/null")).await;
    let text = eventually("the proxy's address", async || {
        std::fs::read_to_string(fixture.home("proxy")).ok().filter(|text| !text.is_empty())
    });
    text.await.strip_prefix("http://").unwrap().parse().unwrap()
}

async fn send_request(proxy: SocketAddr, head: &str) -> (u16, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    tokio::time::timeout(DEADLINE, stream.read_line(&mut line)).await.unwrap().unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    (status, stream)
}

#[tokio::test]
async fn allowed_connection_transfers_bytes_and_a_rejected_one_returns_the_reason() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let proxy = proxy_address(&fixture, &mut sender).await;
    let (status, mut stream) = send_request(proxy, "CONNECT echo.test:443 HTTP/1.1\r\nHost: echo.test\r\n\r\n").await;
    assert_eq!(status, 200);
    stream.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"there and back");
    let (status, mut stream) =
        send_request(proxy, "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(status, 403);
    assert!(text.contains("does not allow this host name"), "{text}");
    let controller = fixture.controller.lock().unwrap();
    assert_eq!(controller.connect_targets, ["echo.test:443", "evil.test:443"]);
    assert_eq!(controller.connect_programs, [Some(EgressBy::Tool); 2]);
}

#[tokio::test]
async fn plain_http_request_is_forwarded_to_its_host() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let proxy = proxy_address(&fixture, &mut sender).await;
    // The remote echoes the request, which is not a valid response (502); the connect target shows where it went.
    let head = "GET http://echo.test:8080/a?b HTTP/1.1\r\nHost: wrong\r\nProxy-Connection: keep-alive\r\n\r\n";
    let (status, _) = send_request(proxy, head).await;
    assert_eq!(status, 502);
    assert_eq!(fixture.controller.lock().unwrap().connect_targets, ["echo.test:8080"]);
    let (status, _) = send_request(proxy, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn connections_over_the_channel_limit_are_queued() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let proxy = proxy_address(&fixture, &mut sender).await;
    let mut open = Vec::new();
    for _ in 0..30 {
        // Idle connections free their slots.
        open.push(tokio::spawn(send_request(proxy, "CONNECT echo.test:443 HTTP/1.1\r\nHost: echo.test\r\n\r\n")));
    }
    let mut accepted = 0;
    for request in open {
        let (status, stream) = request.await.unwrap();
        accepted += u32::from(status == 200);
        drop(stream);
    }
    assert_eq!(accepted, 30);
}
