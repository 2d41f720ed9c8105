//! The client with hand-written messages, and with TigerVNC if it is installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod tigervnc;

use super::*;
use tokio::io::{DuplexStream, duplex};

const ANSWER_MS_MAX: u64 = 20_000;

/// The server's side of a handshake with a framebuffer of 8 × 8; returns the encodings that the client offers.
async fn accept_client(server: &mut DuplexStream) -> Vec<i32> {
    server.write_all(PROTOCOL_VERSION).await.unwrap();
    server.read_exact(&mut [0; 12]).await.unwrap();
    server.write_all(&[1, SECURITY_NONE]).await.unwrap();
    server.read_u8().await.unwrap();
    server.write_all(&[0; 4]).await.unwrap();
    server.read_u8().await.unwrap();
    server.write_all(&[0, 8, 0, 8]).await.unwrap();
    server.write_all(&[0; 16 + 4]).await.unwrap();
    server.read_exact(&mut [0; 20 + 2]).await.unwrap();
    let count = server.read_u16().await.unwrap();
    let mut offered = Vec::new();
    for _ in 0..count {
        offered.push(server.read_i32().await.unwrap());
    }
    offered
}

/// The header of a rectangle in an update.
fn rectangle_header(width: u16, height: u16, encoding: i32) -> Vec<u8> {
    [&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes(), &encoding.to_be_bytes()].concat()
}

/// Connects a client, sends it these updates, and returns the encodings that it offered and the framebuffer.
async fn apply_updates(offered: &[Encoding], updates: &[Vec<u8>]) -> (Vec<i32>, Result<Frame, RfbError>) {
    let (near, mut far) = duplex(1 << 16);
    let (client, offers) =
        tokio::join!(RfbClient::connect_with_encodings(near, ANSWER_MS_MAX, offered), accept_client(&mut far));
    let mut client = client.unwrap();
    for update in updates {
        far.write_all(update).await.unwrap();
        if let Err(error) = client.apply_next_update().await {
            return (offers, Err(error));
        }
    }
    (offers, Ok(client.frame().clone()))
}

#[tokio::test]
async fn browser_encodings_are_offered_without_a_quality_level() {
    let (offered, _) = apply_updates(Encoding::BROWSER_DEFAULTS, &[]).await;
    assert_eq!(offered, [7, 1, 0, -254, -223, -224]);
    assert!(!offered.iter().any(|number| (-32..=-23).contains(number)), "the quality levels");
}

#[tokio::test]
async fn update_of_unknown_length_ends_with_last_rect() {
    let tight = [&rectangle_header(8, 8, 7)[..], &[0x80, 0x0a, 0x0b, 0x0c]].concat();
    let update = [&[0, 0, 0xff, 0xff][..], &tight, &rectangle_header(0, 0, -224)].concat();
    let bell_and_another = [&[2, 0, 0, 0, 1][..], &rectangle_header(2, 1, 7), &[0x80, 1, 2, 3]].concat();
    let (_, frame) = apply_updates(Encoding::BROWSER_DEFAULTS, &[update, bell_and_another]).await;
    let frame = frame.unwrap();
    assert_eq!((frame.count_pixels(0x0a0b0c), frame.count_pixels(0x010203)), (62, 2));
}

#[tokio::test]
async fn raw_is_always_accepted_and_other_encodings_only_if_offered() {
    let raw = [&[0, 0, 0, 1][..], &rectangle_header(1, 1, 0), &[3, 2, 1, 0]].concat();
    let tight = [&[0, 0, 0, 1][..], &rectangle_header(8, 8, 7), &[0x80, 1, 2, 3]].concat();
    let (_, frame) = apply_updates(&[], std::slice::from_ref(&raw)).await;
    assert_eq!(frame.unwrap().pixel(0, 0), Some(0x010203));
    let (_, result) = apply_updates(&[Encoding::Raw], &[raw, tight]).await;
    assert!(matches!(result, Err(RfbError::Protocol(message)) if message.contains("encoding 7")));
}

#[tokio::test]
async fn rectangle_outside_the_framebuffer_is_rejected_before_it_is_read() {
    for encoding in [0, 1, 7] {
        let outside = [&[0, 0, 0, 1][..], &rectangle_header(9, u16::MAX, encoding), &[0; 4]].concat();
        let (_, result) = apply_updates(Encoding::BROWSER_DEFAULTS, &[outside]).await;
        assert!(
            matches!(result, Err(RfbError::Protocol(message)) if message.contains("outside")),
            "encoding {encoding}"
        );
    }
}
