//! A connection to the API socket that never blocks.

use crate::{
    error::Error,
    operation::Operation,
    request::Request,
    response::{Head, Response},
    version::Version,
};
use rustix::net::SendFlags;
use std::{
    collections::VecDeque,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// The longest answer that is read, bytes. The answers to the operations of this client have some hundred bytes.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// A connection. Poll its file descriptor; when it is readable, call [`Self::read_response`] until it returns `None`.
///
/// ```text
///  new ── sends GET /version ─▶ read_response ─▶ version() is known ─▶ send … ─▶ read_response …
/// ```
///
/// Several requests may be sent at once. Firecracker executes them one after another and answers in their order. A failed one
/// does not prevent the next.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    pending: VecDeque<Operation>,
    version: Option<Version>,
    closed: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// Makes a connection of a connected socket and sends `GET /version`. The answer is the first response.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        let operation = Operation::GetFirecrackerVersion;
        stream.set_nonblocking(true).map_err(|source| Error::Socket { operation, source })?;
        let mut connection = Self { stream, input: Vec::new(), pending: VecDeque::new(), version: None, closed: false };
        connection.write(&Request::get_firecracker_version())?;
        Ok(connection)
    }

    /// Firecracker's version, once it has answered `GET /version` and is supported.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether Firecracker has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The version is unknown or does not have what the request uses; or the socket failed.
    pub fn send(&mut self, request: &Request) -> Result<(), Error> {
        let operation = request.operation();
        let version = self.version.ok_or(Error::VersionUnknown { operation })?;
        request.require_version(version)?;
        self.write(request)
    }

    /// A request is much shorter than the buffer of a socket, so a partial write is an error.
    fn write(&mut self, request: &Request) -> Result<(), Error> {
        let operation = request.operation();
        let bytes = request.to_bytes();
        match rustix::net::send(&self.stream, &bytes, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => {
                self.pending.push_back(operation);
                Ok(())
            }
            Ok(_) => Err(Error::Socket { operation, source: io::ErrorKind::WriteZero.into() }),
            Err(rustix::io::Errno::PIPE) => Err(Error::Closed { operation }),
            Err(error) => Err(Error::Socket { operation, source: error.into() }),
        }
    }

    /// Reads the bytes that have arrived. Returns the next complete answer; `None`: there is none yet.
    ///
    /// # Errors
    /// [`Error::Fault`]: Firecracker rejected the request; the connection can still be used. All others: it cannot.
    pub fn read_response(&mut self) -> Result<Option<Response>, Error> {
        self.fill()?;
        let Some(&operation) = self.pending.front() else {
            return if self.input.is_empty() { Ok(None) } else { Err(Error::Unrequested) };
        };
        let head = loop {
            let head = Head::parse(&self.input).map_err(|source| Error::NotHttp { operation, source })?;
            match head {
                Some(head) if head.is_continue() => drop(self.input.drain(..head.head_bytes)),
                Some(head) => break head,
                None if self.closed => return Err(Error::Closed { operation }),
                None => return Ok(None),
            }
        };
        let end = head.head_bytes.saturating_add(head.body_bytes);
        if end > RESPONSE_BYTES_MAX {
            return Err(Error::TooLong { operation, bytes_max: RESPONSE_BYTES_MAX });
        }
        let Some(body) = self.input.get(head.head_bytes..end).map(<[u8]>::to_vec) else {
            return if self.closed { Err(Error::Closed { operation }) } else { Ok(None) };
        };
        self.input.drain(..end);
        self.pending.pop_front();
        let response = Response::new(operation, head.status, body)?;
        if operation == Operation::GetFirecrackerVersion {
            self.version = Some(response.supported_version()?);
        }
        Ok(Some(response))
    }

    fn fill(&mut self) -> Result<(), Error> {
        let operation = self.pending.front().copied().unwrap_or(Operation::GetFirecrackerVersion);
        let mut chunk = [0u8; 4096];
        while !self.closed {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.closed = true,
                Err(source) => return Err(Error::Socket { operation, source }),
            }
            if self.input.len() > RESPONSE_BYTES_MAX {
                return Err(Error::TooLong { operation, bytes_max: RESPONSE_BYTES_MAX });
            }
        }
        Ok(())
    }
}
