//! The client against bytes made by hand, and against TigerVNC where it is installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod tigervnc;

use super::*;
use tokio::io::{DuplexStream, duplex};

const ANSWER_MS_MAX: u64 = 20_000;

/// The server's side of a handshake with a picture of 8 × 8; gives the encodings that the client offers.
async fn greet(server: &mut DuplexStream) -> Vec<i32> {
    server.write_all(VERSION).await.unwrap();
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

/// An update's rectangle, without its content.
fn head(width: u16, height: u16, encoding: i32) -> Vec<u8> {
    [&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes(), &encoding.to_be_bytes()].concat()
}

/// What a client makes of these updates, after what it offered.
async fn after(offered: &[Encoding], updates: &[Vec<u8>]) -> (Vec<i32>, Result<Frame, RfbError>) {
    let (near, mut far) = duplex(1 << 16);
    let (client, heard) = tokio::join!(RfbClient::connect_with(near, ANSWER_MS_MAX, offered), greet(&mut far));
    let mut client = client.unwrap();
    for update in updates {
        far.write_all(update).await.unwrap();
        if let Err(error) = client.update().await {
            return (heard, Err(error));
        }
    }
    (heard, Ok(client.frame().clone()))
}

#[tokio::test]
async fn a_browsers_encodings_are_offered_without_a_quality() {
    let (offered, _) = after(Encoding::AS_A_BROWSER, &[]).await;
    assert_eq!(offered, [7, 1, 0, -254, -223, -224]);
    assert!(!offered.iter().any(|number| (-32..=-23).contains(number)), "the quality levels");
}

#[tokio::test]
async fn an_update_of_unknown_length_ends_with_its_last_rectangle() {
    let tight = [&head(8, 8, 7)[..], &[0x80, 0x0a, 0x0b, 0x0c]].concat();
    let update = [&[0, 0, 0xff, 0xff][..], &tight, &head(0, 0, -224)].concat();
    let bell_and_another = [&[2, 0, 0, 0, 1][..], &head(2, 1, 7), &[0x80, 1, 2, 3]].concat();
    let (_, frame) = after(Encoding::AS_A_BROWSER, &[update, bell_and_another]).await;
    let frame = frame.unwrap();
    assert_eq!((frame.count(0x0a0b0c), frame.count(0x010203)), (62, 2));
}

#[tokio::test]
async fn raw_may_always_come_and_others_only_when_they_were_offered() {
    let raw = [&[0, 0, 0, 1][..], &head(1, 1, 0), &[3, 2, 1, 0]].concat();
    let tight = [&[0, 0, 0, 1][..], &head(8, 8, 7), &[0x80, 1, 2, 3]].concat();
    let (_, frame) = after(&[], std::slice::from_ref(&raw)).await;
    assert_eq!(frame.unwrap().at(0, 0), Some(0x010203));
    let (_, refused) = after(&[Encoding::Raw], &[raw, tight]).await;
    assert!(matches!(refused, Err(RfbError::Said(what)) if what.contains("encoding 7")));
}

#[tokio::test]
async fn a_rectangle_outside_of_the_picture_is_refused_before_it_is_read() {
    for encoding in [0, 1, 7] {
        let outside = [&[0, 0, 0, 1][..], &head(9, u16::MAX, encoding), &[0; 4]].concat();
        let (_, refused) = after(Encoding::AS_A_BROWSER, &[outside]).await;
        assert!(matches!(refused, Err(RfbError::Said(what)) if what.contains("outside")), "encoding {encoding}");
    }
}
