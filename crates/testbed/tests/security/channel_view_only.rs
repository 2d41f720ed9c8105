//! Random RFB messages of view-only viewers in random pieces, against a desktop that reads strictly what arrives: nothing acts.

use crate::hostile_machine::{Behaviour, HostileMachines, SETTINGS};
use anteroom_machine::ByteStream;
use anteroom_testbed::{ApiClient, WAIT_MAX, eventually};
use anteroom_wire::{SessionId, api::Ticket};
use futures_util::FutureExt;
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeMap, io, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VIEWERS: usize = 60;
const VERSION_BYTES: usize = 12;
/// At least so many viewers get past the handshake.
const HANDSHAKES_MIN: u64 = 12;
/// Encodings whose request enables a message with an effect.
const ACTING_ENCODINGS: [i32; 4] = [-258, -259, -305, -1_063_131_698];

/// What the desktop has read.
#[derive(Debug, Default)]
struct Seen {
    handshakes: u64,
    /// Messages by type.
    messages: BTreeMap<u8, u64>,
    /// Keys, pointers, texts, encodings that enable others, and messages of unknown types.
    acted: Vec<String>,
}

/// Plays the desktop until the stream ends.
async fn play_desktop(mut stream: ByteStream, seen: &Mutex<Seen>) -> io::Result<()> {
    stream.write_all(b"RFB 003.008\n").await?;
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    stream.write_all(&[1, 1]).await?;
    if stream.read_u8().await? != 1 {
        // It was not offered.
        return Ok(());
    }
    stream.write_all(&[0; 4]).await?;
    stream.read_u8().await?;
    let init = [&[0, 64, 0, 64][..], &[0; 16], &[0, 0, 0, 1, b'x']].concat();
    stream.write_all(&init).await?;
    seen.lock().handshakes += 1;
    loop {
        let kind = stream.read_u8().await?;
        *seen.lock().messages.entry(kind).or_default() += 1;
        let rest_bytes = match kind {
            0 => 19,
            2 => {
                stream.read_u8().await?;
                for _ in 0..stream.read_u16().await? {
                    let encoding = stream.read_i32().await?;
                    if ACTING_ENCODINGS.contains(&encoding) {
                        seen.lock().acted.push(format!("encoding {encoding}"));
                    }
                }
                0
            }
            3 | 150 => 9,
            248 => {
                stream.read_exact(&mut [0; 7]).await?;
                stream.read_u8().await?
            }
            other => {
                seen.lock().acted.push(format!("message {other}"));
                return Ok(());
            }
        };
        stream.read_exact(&mut vec![0; usize::from(rest_bytes)]).await?;
    }
}

/// Numbers that look random, the same in each run (a linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Bytes that are often types of messages.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let other = u8::try_from(self.below(256)).unwrap();
        (0..count).map(|_| self.pick(&[4, 5, 6, 255, 0, 1, other])).collect()
    }

    fn encodings(&mut self, count: usize) -> Vec<u8> {
        let known = [0, 7, -239, -257, -258, -305, -308, -309, -312, -313, -316, -1_063_131_698];
        let encodings: Vec<i32> = (0..count).map(|_| self.pick(&known)).collect();
        encodings.into_iter().flat_map(i32::to_be_bytes).collect()
    }

    fn message(&mut self) -> Vec<u8> {
        let other = u8::try_from(self.below(256)).unwrap();
        let kind = self.pick(&[0, 2, 3, 3, 4, 4, 5, 5, 6, 6, 150, 248, 250, 251, 255, other]);
        let rest = match kind {
            0 => self.bytes(19),
            2 => {
                let count = self.pick(&[0, 1, 3, 40, 255]);
                let head = [0, 0, u8::try_from(count).unwrap()];
                [&head[..], &self.encodings(count)].concat()
            }
            3 | 150 => self.bytes(9),
            4 => self.bytes(7),
            5 => self.bytes(5),
            6 => {
                let length: u32 = self.pick(&[0, 1, 5, 300, 70_000]);
                let text = self.bytes(usize::try_from(length).unwrap());
                [&[0; 3][..], &length.to_be_bytes(), &text].concat()
            }
            248 => {
                let length = self.pick(&[0, 1, 64, 65]);
                [self.bytes(7), vec![length], self.bytes(length.into())].concat()
            }
            250 => [&[0, 1][..], &self.bytes(1)].concat(),
            251 => {
                let screens = self.pick(&[0, 1, 4]);
                [vec![0], self.bytes(4), vec![screens, 0], self.bytes(16 * usize::from(screens))].concat()
            }
            255 => {
                let length = self.below(11);
                self.bytes(length)
            }
            _ => {
                let length = self.below(12);
                self.bytes(length)
            }
        };
        [vec![kind], rest].concat()
    }

    /// Everything that one viewer sends.
    fn viewer(&mut self) -> Vec<u8> {
        let version = self.pick(b"888739");
        let security = match self.below(5) {
            0 => [&[2][..], &[4; 16]].concat(),
            1 => vec![16],
            _ => vec![1],
        };
        let shared = self.pick(&[0, 1, 4]);
        let mut bytes = [b"RFB 003.00", &[version, b'\n'][..], &security, &[shared]].concat();
        for _ in 0..=self.below(30) {
            bytes.extend(self.message());
        }
        bytes
    }
}

/// Sends the bytes as a view-only viewer; returns when the server has closed the connection, or after a while.
async fn view(api: &ApiClient, id: &SessionId, bytes: &[u8], piece_bytes: usize) {
    let request = json!({ "purpose": "desktop", "view_only": true });
    let ticket = async || {
        let answer = api.post(&format!("/api/auth/session/{id}/ticket"), request.clone()).await?;
        Ok(answer.parse::<Ticket>().ok())
    };
    let ticket = eventually("the rate permits a ticket", WAIT_MAX, ticket).await.unwrap();
    let protocols = format!("binary, ticket.{}", ticket.ticket);
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut socket = api.open_websocket(&path, &protocols, true).await.unwrap();
    let (version, rest) = bytes.split_at(VERSION_BYTES);
    let (mut offer, mut greeting) = ([0; 2], [0; VERSION_BYTES]);
    // The viewer waits for the desktop's offer, as the filter demands. Versions that are not accepted have none.
    let offered = async {
        socket.read_exact(&mut greeting).await?;
        socket.write_all(version).await?;
        socket.flush().await?;
        socket.read_exact(&mut offer).await
    };
    if offered.await.is_err() {
        return;
    }
    for piece in rest.chunks(piece_bytes) {
        if socket.write_all(piece).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
    // The desktop answers nothing more; the server closes the connections of viewers that break the protocol.
    let _ = socket.shutdown().await;
    let _ = tokio::time::timeout(WAIT_MAX, socket.read_to_end(&mut Vec::new())).await.expect("closed");
}

#[tokio::test]
async fn channel_desktop_that_reads_strictly_finds_no_act_of_view_only_viewers() {
    let machines = HostileMachines::start(SETTINGS).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let desktop = Arc::clone(&seen);
    let stream = move |_: &str, stream: ByteStream| {
        let seen = Arc::clone(&desktop);
        async move { drop(play_desktop(stream, &seen).await) }.boxed()
    };
    let (id, machine) =
        machines.start_claimed(Behaviour { stream: Some(Arc::new(stream)), ..Behaviour::default() }).await;
    let mut numbers = Numbers(7);
    for _ in 0..VIEWERS {
        let bytes = numbers.viewer();
        let piece_bytes = numbers.pick(&[1, 2, 3, 7, 20, 5_000]).max(bytes.len() / 500);
        view(&machines.api, &id, &bytes, piece_bytes).await;
    }
    machine.agent.abort();
    {
        let seen = seen.lock();
        assert!(seen.acted.is_empty(), "{seen:?}");
        assert!(seen.handshakes >= HANDSHAKES_MIN && !seen.messages.is_empty(), "{seen:?}");
    }
    machines.require_unaffected("view-only viewers").await;
    machines.end().await;
}
