//! QEMU's machine protocol (QMP): one JSON object per line, responses in the order of the commands, events in between.
//!
//! Unknown events and fields are kept as plain values, so another QEMU version does not break the reader. The socket is
//! non-blocking: the keeper polls it together with its other files.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The longest line that is read, bytes; QEMU's responses to the keeper's commands have some hundred bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A message from QEMU.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum QmpMessage {
    /// The first line of a connection.
    Greeting,
    /// A command succeeded.
    Return { command: &'static str, value: Value },
    /// A command failed.
    Error { command: &'static str, text: String },
    /// An event.
    Event { name: String, data: Value },
}

/// Why the connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    #[error("the QMP socket cannot be read or written")]
    Socket(#[source] io::Error),
    #[error("a QMP line is not JSON: {line:?}")]
    NotJson {
        line: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("a QMP line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// The client side of a connection. Commands are pipelined: they are sent at once, and QEMU responds in order.
pub(crate) struct QmpClient {
    stream: UnixStream,
    input: Vec<u8>,
    pending: VecDeque<&'static str>,
    closed: bool,
}

impl AsFd for QmpClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl QmpClient {
    /// Makes a client of a connected socket and enters command mode.
    pub(crate) fn new(stream: UnixStream) -> Result<Self, QmpError> {
        stream.set_nonblocking(true).map_err(QmpError::Socket)?;
        let mut client = Self { stream, input: Vec::new(), pending: VecDeque::new(), closed: false };
        client.send_command("qmp_capabilities", Value::Null, None)?;
        Ok(client)
    }

    /// Sends a command, with `file` attached (SCM_RIGHTS).
    pub(crate) fn send_command(
        &mut self,
        name: &'static str,
        arguments: Value,
        file: Option<&OwnedFd>,
    ) -> Result<(), QmpError> {
        let mut command = json!({ "execute": name });
        if !arguments.is_null()
            && let Some(fields) = command.as_object_mut()
        {
            fields.insert("arguments".into(), arguments);
        }
        let line = format!("{command}\n");
        self.pending.push_back(name);
        send(self.stream.as_fd(), line.as_bytes(), file).map_err(QmpError::Socket)
    }

    /// Whether QEMU has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads the bytes that have arrived and returns the complete messages. Call when the socket is readable.
    pub(crate) fn read_messages(&mut self) -> Result<Vec<QmpMessage>, QmpError> {
        let mut chunk = [0u8; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.closed = true;
                    break;
                }
                Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // QEMU exited without reading all commands.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.closed = true;
                    break;
                }
                Err(error) => return Err(QmpError::Socket(error)),
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(QmpError::TooLong);
            }
        }
        let mut messages = Vec::new();
        while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            if let Some(message) = self.parse(&line)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    fn parse(&mut self, line: &[u8]) -> Result<Option<QmpMessage>, QmpError> {
        let value: Value = serde_json::from_slice(line).map_err(|source| QmpError::NotJson {
            line: String::from_utf8_lossy(line).chars().take(200).collect(),
            source,
        })?;
        let message = if value.get("QMP").is_some() {
            Some(QmpMessage::Greeting)
        } else if let Some(name) = value.get("event").and_then(Value::as_str) {
            let data = value.get("data").cloned().unwrap_or(Value::Null);
            Some(QmpMessage::Event { name: name.to_owned(), data })
        } else if let Some(error) = value.get("error") {
            let text = error.get("desc").and_then(Value::as_str).unwrap_or("no description").to_owned();
            self.pending.pop_front().map(|command| QmpMessage::Error { command, text })
        } else if let Some(value) = value.get("return") {
            self.pending.pop_front().map(|command| QmpMessage::Return { command, value: value.clone() })
        } else {
            None
        };
        Ok(message)
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], file: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file.as_fd()]);
    if let Some(files) = &files {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    fn pair() -> (QmpClient, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (QmpClient::new(ours).unwrap(), theirs)
    }

    #[test]
    fn responses_are_matched_to_pipelined_commands() {
        let (mut client, theirs) = pair();
        client.send_command("cont", Value::Null, None).unwrap();
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("qmp_capabilities"));
        assert!(lines.next().unwrap().unwrap().contains("cont"));
        (&theirs).write_all(b"{\"QMP\": {}}\n").unwrap();
        assert_eq!(client.read_messages().unwrap(), [QmpMessage::Greeting]);
        (&theirs).write_all(b"{\"return\": {}}\n{\"event\": \"A_NEW_ONE\", \"data\": {\"x\": 1}}\n").unwrap();
        let messages = client.read_messages().unwrap();
        assert_eq!(messages[0], QmpMessage::Return { command: "qmp_capabilities", value: json!({}) });
        assert_eq!(messages[1], QmpMessage::Event { name: "A_NEW_ONE".into(), data: json!({"x": 1}) });
        (&theirs).write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n").unwrap();
        assert_eq!(client.read_messages().unwrap(), [QmpMessage::Error { command: "cont", text: "no".into() }]);
    }

    #[test]
    fn partial_line_is_kept_and_invalid_json_is_an_error() {
        let (mut client, theirs) = pair();
        (&theirs).write_all(b"{\"QMP\":").unwrap();
        assert_eq!(client.read_messages().unwrap(), []);
        (&theirs).write_all(b" {}}\n").unwrap();
        assert_eq!(client.read_messages().unwrap(), [QmpMessage::Greeting]);
        (&theirs).write_all(b"garbage\n").unwrap();
        assert!(matches!(client.read_messages(), Err(QmpError::NotJson { .. })));
    }
}
