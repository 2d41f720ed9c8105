use super::*;
use anteroom_wire::channel::{format_go_line, format_nonce_line};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const A: &str = "0123456789abcdef0123456789abcdef";
const B: &str = "fedcba9876543210fedcba9876543210";

fn stream_and_peer() -> (HandshakeStream, DuplexStream) {
    let (agent, peer) = duplex(1 << 20);
    (HandshakeStream::new(Box::new(agent)), peer)
}

async fn expect(peer: &mut DuplexStream, text: &str) {
    let mut got = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(10), peer.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

async fn connect(stream: &HandshakeStream, peer: &mut DuplexStream, hex: &str) -> Connection {
    peer.write_all(format_nonce_line(hex).as_bytes()).await.unwrap();
    peer.write_all(format_go_line(hex).as_bytes()).await.unwrap();
    stream.handshake(false).await.unwrap()
}

#[test]
fn marker_is_found_however_the_bytes_are_split() {
    let text = format!("\n\nN 12\x00\nN {A}\nG {A}\nN zz{B}\n\nN {B}\n");
    for size in 1..text.len() {
        let mut scanner = MarkerScanner::default();
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let mut rest = piece;
            while let Some((marker, used)) = scanner.find_first(rest) {
                found.push(marker);
                rest = &rest[used..];
            }
        }
        assert_eq!(
            found,
            [Marker::Nonce(A.into()), Marker::Go(A.into()), Marker::Nonce(B.into())],
            "split every {size}"
        );
    }
}

#[tokio::test]
async fn every_nonce_is_echoed_and_only_the_latest_go_counts() {
    let (stream, mut peer) = stream_and_peer();
    for text in [
        format_nonce_line(A),
        "\n".repeat(PADDING_BYTES),
        format_nonce_line(B),
        format_go_line(A),
        format_go_line(B),
        "PRI *".into(),
    ] {
        peer.write_all(text.as_bytes()).await.unwrap();
    }
    let mut connection = stream.handshake(false).await.unwrap();
    expect(&mut peer, &format!("{}{}", format_echo_line(A), format_echo_line(B))).await;
    let mut first = [0; 5];
    connection.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"PRI *");
}

#[tokio::test]
async fn garbage_before_the_nonce_is_dropped() {
    let (stream, mut peer) = stream_and_peer();
    let garbage: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    peer.write_all(&garbage).await.unwrap();
    let _connection = connect(&stream, &mut peer, A).await;
    expect(&mut peer, &format_echo_line(A)).await;
}

#[tokio::test]
async fn nonce_in_mid_connection_resets_it_and_is_echoed() {
    let (stream, mut peer) = stream_and_peer();
    let mut old = connect(&stream, &mut peer, A).await;
    expect(&mut peer, &format_echo_line(A)).await;
    peer.write_all(b"half a fra").await.unwrap();
    let mut half = [0; 10];
    old.read_exact(&mut half).await.unwrap();
    // Split in the middle of the nonce: the old connection reads the first half.
    let nonce = format_nonce_line(B);
    peer.write_all(&nonce.as_bytes()[..20]).await.unwrap();
    let mut first_half = [0; 20];
    old.read_exact(&mut first_half).await.unwrap();
    peer.write_all(&nonce.as_bytes()[20..]).await.unwrap();
    peer.write_all(format_go_line(B).as_bytes()).await.unwrap();
    peer.write_all(b"PRI").await.unwrap();
    while let Ok(n) = old.read(&mut half).await {
        assert!(n > 0, "a reset, not an end");
    }
    assert!(old.write_all(b"stale").await.is_err());
    let mut new = stream.handshake(false).await.unwrap();
    expect(&mut peer, &format_echo_line(B)).await;
    let mut first = [0; 3];
    new.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"PRI");
    assert!(old.write_all(b"stale").await.is_err(), "the old connection stays closed");
}

#[tokio::test]
async fn go_without_a_nonce_in_mid_connection_is_payload() {
    let (stream, mut peer) = stream_and_peer();
    let mut connection = connect(&stream, &mut peer, A).await;
    peer.write_all(format_go_line(A).as_bytes()).await.unwrap();
    let mut bytes = vec![0; format_go_line(A).len()];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, format_go_line(A).as_bytes());
}

#[tokio::test]
async fn broken_connection_is_padded_before_the_next() {
    let (stream, mut peer) = stream_and_peer();
    peer.write_all(format!("{}{}", format_nonce_line(A), format_go_line(A)).as_bytes()).await.unwrap();
    let _connection = stream.handshake(true).await.unwrap();
    expect(&mut peer, &"\n".repeat(PADDING_BYTES)).await;
    expect(&mut peer, &format_echo_line(A)).await;
}

#[tokio::test]
async fn end_of_the_stream_ends_the_handshake() {
    let (stream, peer) = stream_and_peer();
    drop(peer);
    assert!(stream.handshake(false).await.is_err());
}
