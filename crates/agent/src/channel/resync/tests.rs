use super::*;
use anteroom_wire::channel::{go_line, nonce_line};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const A: &str = "0123456789abcdef0123456789abcdef";
const B: &str = "fedcba9876543210fedcba9876543210";

fn line() -> (Line, DuplexStream) {
    let (agent, host) = duplex(1 << 20);
    (Line::new(Box::new(agent)), host)
}

async fn expect(host: &mut DuplexStream, text: &str) {
    let mut got = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(10), host.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

async fn connect(line: &Line, host: &mut DuplexStream, hex: &str) -> Connection {
    host.write_all(nonce_line(hex).as_bytes()).await.unwrap();
    host.write_all(go_line(hex).as_bytes()).await.unwrap();
    line.handshake(false).await.unwrap()
}

#[test]
fn a_mark_is_found_however_the_bytes_are_cut() {
    let text = format!("\n\nN 12\x00\nN {A}\nG {A}\nN zz{B}\n\nN {B}\n");
    for size in 1..text.len() {
        let mut spotter = Spotter::default();
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let mut rest = piece;
            while let Some((mark, used)) = spotter.find(rest) {
                found.push(mark);
                rest = &rest[used..];
            }
        }
        assert_eq!(found, [Mark::Nonce(A.into()), Mark::Go(A.into()), Mark::Nonce(B.into())], "cut every {size}");
    }
}

#[tokio::test]
async fn every_nonce_is_echoed_and_only_the_latest_go_counts() {
    let (line, mut host) = line();
    for text in [nonce_line(A), "\n".repeat(PAD_BYTES), nonce_line(B), go_line(A), go_line(B), "PRI *".into()] {
        host.write_all(text.as_bytes()).await.unwrap();
    }
    let mut connection = line.handshake(false).await.unwrap();
    expect(&mut host, &format!("{}{}", echo_line(A), echo_line(B))).await;
    let mut first = [0; 5];
    connection.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"PRI *");
}

#[tokio::test]
async fn garbage_before_the_nonce_is_thrown_away() {
    let (line, mut host) = line();
    let garbage: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    host.write_all(&garbage).await.unwrap();
    let _connection = connect(&line, &mut host, A).await;
    expect(&mut host, &echo_line(A)).await;
}

#[tokio::test]
async fn a_nonce_in_mid_connection_ends_it_and_is_answered() {
    let (line, mut host) = line();
    let mut old = connect(&line, &mut host, A).await;
    expect(&mut host, &echo_line(A)).await;
    host.write_all(b"half a fra").await.unwrap();
    let mut half = [0; 10];
    old.read_exact(&mut half).await.unwrap();
    // Cut in the middle of the nonce: the old connection swallows the first half.
    let nonce = nonce_line(B);
    host.write_all(&nonce.as_bytes()[..20]).await.unwrap();
    let mut swallowed = [0; 20];
    old.read_exact(&mut swallowed).await.unwrap();
    host.write_all(&nonce.as_bytes()[20..]).await.unwrap();
    host.write_all(go_line(B).as_bytes()).await.unwrap();
    host.write_all(b"PRI").await.unwrap();
    while let Ok(n) = old.read(&mut half).await {
        assert!(n > 0, "a reset, not an end");
    }
    assert!(old.write_all(b"stale").await.is_err());
    let mut new = line.handshake(false).await.unwrap();
    expect(&mut host, &echo_line(B)).await;
    let mut first = [0; 3];
    new.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"PRI");
    assert!(old.write_all(b"stale").await.is_err(), "the old connection stays shut");
}

#[tokio::test]
async fn a_go_alone_in_mid_connection_is_just_bytes() {
    let (line, mut host) = line();
    let mut connection = connect(&line, &mut host, A).await;
    host.write_all(go_line(A).as_bytes()).await.unwrap();
    let mut bytes = vec![0; go_line(A).len()];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, go_line(A).as_bytes());
}

#[tokio::test]
async fn a_broken_connection_is_padded_before_the_next() {
    let (line, mut host) = line();
    host.write_all(format!("{}{}", nonce_line(A), go_line(A)).as_bytes()).await.unwrap();
    let _connection = line.handshake(true).await.unwrap();
    expect(&mut host, &"\n".repeat(PAD_BYTES)).await;
    expect(&mut host, &echo_line(A)).await;
}

#[tokio::test]
async fn an_ended_stream_ends_the_handshake() {
    let (line, host) = line();
    drop(host);
    assert!(line.handshake(false).await.is_err());
}
