//! The rate at which a viewer may send, whatever it sends.

use anteroom_wire::rate::Rate;
use axum::extract::ws::Message;
use tokio::time::Instant;

/// Bytes a second that a viewer may send, and at once. What a person types and draws needs a hundredth of it; a pasted text of 1 MiB
/// passes at once.
pub const BYTES_PER_S: u32 = 256 * 1024;
/// Bytes at once.
pub const BYTES_BURST: u32 = 1024 * 1024;
/// WebSocket messages a second that a viewer may send, and at once, pings included: a message may be empty.
pub const MESSAGES_PER_S: u32 = 1_000;
/// Messages at once.
pub const MESSAGES_BURST: u32 = 2_000;

/// The rates of one viewer.
#[derive(Debug)]
pub(crate) struct ViewerRate {
    bytes: Rate,
    messages: Rate,
}

impl ViewerRate {
    pub(crate) fn new() -> Self {
        Self { bytes: Rate::new(BYTES_PER_S, BYTES_BURST), messages: Rate::new(MESSAGES_PER_S, MESSAGES_BURST) }
    }

    /// Waits until the viewer may send another message. Cancel-safe.
    pub(crate) async fn wait_permitted(&self) {
        let now = Instant::now().into_std();
        let ready_at = self.bytes.ready_at(now).max(self.messages.ready_at(now));
        if ready_at > now {
            tokio::time::sleep_until(ready_at.into()).await;
        }
    }

    /// Counts a message.
    pub(crate) fn take(&mut self, message: &Message) {
        let bytes = match message {
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Text(text) => text.len(),
            Message::Close(_) => 0,
        };
        let now = Instant::now().into_std();
        self.bytes.take(bytes, now);
        self.messages.take(1, now);
    }
}
