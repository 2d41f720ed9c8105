//! The stream between pane and agent: one JSON value a line, and with a start command the file descriptor that becomes the tool's standard
//! input. The pane never reads the secret in that pipe: it passes the descriptor to the tool.

use super::{PaneCommand, PaneEvent};
use crate::platform::local_socket::write_line;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

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

/// The longest line: it contains an argument list and environment variables.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Reads events on the agent's side. A read can be cancelled without loss.
pub(super) struct EventReader {
    from: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl EventReader {
    pub(super) fn new(from: BufReader<OwnedReadHalf>) -> Self {
        Self { from, line: Vec::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next_event(&mut self) -> io::Result<Option<PaneEvent>> {
        let capacity = u64::try_from(LINE_BYTES_MAX.saturating_sub(self.line.len())).unwrap_or(0);
        (&mut self.from).take(capacity).read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return if self.line.len() < LINE_BYTES_MAX { Ok(None) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        let event = serde_json::from_slice(&self.line)?;
        self.line.clear();
        Ok(Some(event))
    }
}

/// Sends a command to the pane, with the file descriptor `stdin` if there is one.
pub(super) async fn send_command(
    to: &mut OwnedWriteHalf,
    command: &PaneCommand,
    stdin: Option<OwnedFd>,
) -> io::Result<()> {
    let Some(stdin) = stdin else { return write_line(to, command).await };
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    let sent = {
        let stream: &UnixStream = to.as_ref();
        stream.async_io(Interest::WRITABLE, || send_with_descriptor(stream, &line, &stdin)).await?
    };
    to.write_all(&line[sent..]).await
}

fn send_with_descriptor(stream: &UnixStream, line: &[u8], descriptor: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no space for a file descriptor"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(line)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Reads commands on the pane's side. A read can be cancelled without loss.
#[derive(Default)]
pub(super) struct CommandReader {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl CommandReader {
    /// The next command; `None`: the agent has closed the stream.
    pub(super) async fn next_command(&mut self, from: &UnixStream) -> io::Result<Option<PaneCommand>> {
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

    /// The file descriptor that was sent with the last command.
    pub(super) fn take_descriptor(&mut self) -> io::Result<OwnedFd> {
        self.descriptors.pop_front().ok_or_else(|| io::Error::other("the command came without its file descriptor"))
    }

    fn receive(&mut self, from: &UnixStream) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&bytes[..received.bytes]);
        Ok(received.bytes)
    }
}
