//! Messages in order, each of which waits until the rate of its kind permits it.

use super::message::ClientMessage;
use anteroom_rfb::client_messages::MessageType;
use anteroom_wire::rate::Rate;
use bytes::BytesMut;
use std::{collections::VecDeque, time::Instant};

/// Messages that wait in a lane; then the viewer is not read.
pub const WAITING_MESSAGES_MAX: usize = 256;
/// Bytes that wait in a lane; then the viewer is not read.
pub const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Pointer events a second. Screens show at most 240 pictures a second; viewers send 60 moves.
pub const POINTER_PER_S: u32 = 250;
/// Keys and fences. A keyboard repeats 30 times a second; programs that type a text send two events for a character.
pub const KEYS_PER_S: u32 = 500;
/// Requests for updates: one for each picture.
pub const UPDATES_PER_S: u32 = 250;
/// Clipboard texts: each is one act of a person, or a window that is being resized.
pub const CLIPBOARD_PER_S: u32 = 4;
/// Sizes of the desktop.
pub const SIZES_PER_S: u32 = 4;
/// Pixel formats and encodings: set at the start and when a person changes the quality.
pub const FORMATS_PER_S: u32 = 20;

#[derive(Debug)]
pub(super) struct Lane {
    waiting: VecDeque<ClientMessage>,
    waiting_bytes: usize,
    pointer: Rate,
    keys: Rate,
    updates: Rate,
    clipboard: Rate,
    sizes: Rate,
    formats: Rate,
}

impl Lane {
    pub(super) fn new() -> Self {
        // Half a second's messages at once: a page that was paused sends what it collected.
        let rate = |per_s: u32| Rate::new(per_s, (per_s / 2).max(4));
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pointer: rate(POINTER_PER_S),
            keys: rate(KEYS_PER_S),
            updates: rate(UPDATES_PER_S),
            clipboard: rate(CLIPBOARD_PER_S),
            sizes: rate(SIZES_PER_S),
            formats: rate(FORMATS_PER_S),
        }
    }

    /// Passes a message to `output` if no other waits and its rate permits it. Else it waits, or replaces the last one of which only
    /// the newest counts.
    pub(super) fn push(&mut self, message: ClientMessage, now: Instant, output: &mut BytesMut) {
        if self.waiting.is_empty() && self.rate(message.message_type()).try_take(now).is_ok() {
            return output.extend_from_slice(message.bytes());
        }
        let rejected = match self.waiting.back_mut() {
            Some(last) => {
                let before = last.bytes().len();
                let merged = last.merge(message);
                self.waiting_bytes = self.waiting_bytes - before + last.bytes().len();
                merged.err()
            }
            None => Some(message),
        };
        if let Some(message) = rejected {
            self.waiting_bytes += message.bytes().len();
            self.waiting.push_back(message);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MESSAGES_MAX || self.waiting_bytes >= WAITING_BYTES_MAX
    }

    /// Moves the messages that are permitted now to `output`.
    pub(super) fn take_ready(&mut self, now: Instant, output: &mut BytesMut) {
        while let Some(message_type) = self.waiting.front().map(ClientMessage::message_type) {
            if self.rate(message_type).try_take(now).is_err() {
                return;
            }
            self.take_front(output);
        }
    }

    /// Moves all messages to `output`.
    pub(super) fn flush(&mut self, output: &mut BytesMut) {
        while !self.waiting.is_empty() {
            self.take_front(output);
        }
    }

    fn take_front(&mut self, output: &mut BytesMut) {
        if let Some(message) = self.waiting.pop_front() {
            self.waiting_bytes -= message.bytes().len();
            output.extend_from_slice(message.bytes());
        }
    }

    /// When the first message is permitted; `None`: none waits.
    pub(super) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        let first = self.waiting.front()?.message_type();
        Some(self.rate(first).ready_at(now))
    }

    fn rate(&mut self, message_type: MessageType) -> &mut Rate {
        match message_type {
            MessageType::PointerEvent => &mut self.pointer,
            MessageType::KeyEvent | MessageType::QemuExtension | MessageType::Fence => &mut self.keys,
            MessageType::FramebufferUpdateRequest => &mut self.updates,
            MessageType::ClientCutText => &mut self.clipboard,
            MessageType::SetDesktopSize => &mut self.sizes,
            MessageType::SetPixelFormat
            | MessageType::SetEncodings
            | MessageType::EnableContinuousUpdates
            | MessageType::Xvp => &mut self.formats,
        }
    }
}
