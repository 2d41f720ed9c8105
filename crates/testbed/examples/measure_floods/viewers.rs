//! Floods of one viewer.

use crate::bench::{Bench, left_until};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// What a viewer sends, bytes: at most this, as far as the server accepts it while the flood lasts.
const FLOOD_BYTES: usize = 12 * 1024 * 1024;
/// The bytes of the largest message.
pub(crate) const MESSAGE_BYTES: usize = 120;
/// What is sent at once: whole messages of 6, 8, 10 or 120 bytes.
const CHUNK_BYTES: usize = 48 * 1024 / MESSAGE_BYTES * MESSAGE_BYTES;
const ANSWER_MS_MAX: u64 = 60_000;

/// A chunk of messages for consecutive steps.
pub(crate) fn repeated(message: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    (0..u16::MAX).flat_map(message).take(CHUNK_BYTES).collect()
}

impl Bench {
    pub(crate) async fn open_desktop(&self) -> anyhow::Result<ViewerSocket> {
        let socket = self.open_socket("novnc/websock", "desktop").await?;
        Ok(RfbClient::connect(socket, ANSWER_MS_MAX).await?.into_inner())
    }

    pub(crate) async fn flood_desktop(&self, chunk: Vec<u8>) -> anyhow::Result<String> {
        self.flood(self.open_desktop().await?, chunk).await
    }

    pub(crate) async fn flood_terminal_input(&self) -> anyhow::Result<String> {
        self.flood(self.open_socket("terminal", "terminal").await?, vec![b'x'; CHUNK_BYTES]).await
    }

    /// Sends the chunk again and again, and reads what arrives.
    async fn flood(&self, socket: ViewerSocket, chunk: Vec<u8>) -> anyhow::Result<String> {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let (mut sent, start) = (0, Instant::now());
        let writing = async {
            while sent < FLOOD_BYTES {
                writer.write_all(&chunk).await?;
                writer.flush().await?;
                sent += chunk.len();
            }
            anyhow::Ok(())
        };
        let mut received = vec![0; 64 * 1024];
        let reading = async { while reader.read(&mut received).await.is_ok_and(|count| count > 0) {} };
        let ended = tokio::select! {
            // A server that limits the rate has not read everything when the flood ends.
            written = timeout(self.duration, writing) => written.map_or("", |written| if written.is_ok() { ", all" } else { ", closed" }),
            () = reading => ", closed",
        };
        self.sent(sent, start, ended).await
    }

    pub(crate) async fn flood_terminal_sizes(&self) -> anyhow::Result<String> {
        let mut terminal = self.open_socket("terminal", "terminal").await?;
        let (mut sent, start) = (0, Instant::now());
        let flooding = async {
            while sent < FLOOD_BYTES {
                let text = format!("{{\"type\":\"resize\",\"cols\":{},\"rows\":30}}", 60 + sent % 60);
                terminal.send_text(&text).await?;
                sent += text.len();
            }
            anyhow::Ok(())
        };
        let flooded = timeout(self.duration, flooding).await;
        let ended = flooded.map_or("", |flooded| if flooded.is_ok() { ", all" } else { ", closed" });
        self.sent(sent, start, ended).await
    }

    /// Waits until the flood's time is over: what it left behind still costs something.
    async fn sent(&self, bytes: usize, start: Instant, ended: &str) -> anyhow::Result<String> {
        let took = start.elapsed();
        sleep(left_until(start + self.duration)).await;
        Ok(format!("{} KiB sent in {:.1} s{ended}", bytes / 1024, took.as_secs_f64()))
    }
}
