//! The stream between pane and agent: one JSON value a line, and with a start the descriptor that becomes the tool's standard input.
//! The secret in that pipe is never the pane's: it hands the descriptor on.

use super::ToPane;
use crate::shim;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The longest line: an argument list and an environment.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// The agent's ear. A wait that is dropped half-way loses nothing.
pub(super) struct Lines {
    from: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(from: BufReader<OwnedReadHalf>) -> Self {
        Self { from, line: Vec::new() }
    }

    /// The next value; `None` at the end of the stream.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let room = u64::try_from(LINE_BYTES_MAX.saturating_sub(self.line.len())).unwrap_or(0);
        (&mut self.from).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return if self.line.len() < LINE_BYTES_MAX { Ok(None) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        let value = serde_json::from_slice(&self.line)?;
        self.line.clear();
        Ok(Some(value))
    }
}

/// Tells the pane something; `input` goes with its first byte.
pub(super) async fn order(to: &mut OwnedWriteHalf, order: &ToPane, input: Option<OwnedFd>) -> io::Result<()> {
    let Some(input) = input else { return shim::write_line(to, order).await };
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let sent = {
        let stream: &UnixStream = to.as_ref();
        stream.async_io(Interest::WRITABLE, || send_with(stream, &line, &input)).await?
    };
    to.write_all(&line[sent..]).await
}

fn send_with(stream: &UnixStream, line: &[u8], input: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [input.as_fd()];
    if !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(line)], &mut beside, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// The pane's ear. A wait that is dropped half-way loses nothing.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    inputs: VecDeque<OwnedFd>,
}

impl Inbox {
    /// The next order; `None`: the agent is gone.
    pub(super) async fn next(&mut self, from: &UnixStream) -> io::Result<Option<ToPane>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.bytes.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if from.async_io(Interest::READABLE, || self.receive(from)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The descriptor that came with the order.
    pub(super) fn input(&mut self) -> io::Result<OwnedFd> {
        self.inputs.pop_front().ok_or_else(|| io::Error::other("the order came without its descriptor"))
    }

    fn receive(&mut self, from: &UnixStream) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.inputs.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&bytes[..got.bytes]);
        Ok(got.bytes)
    }
}
