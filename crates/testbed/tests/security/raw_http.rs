//! Raw connections to a server, which no client library tidies up.

use anteroom_testbed::{TestServer, WAIT_MAX};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// A raw connection.
pub(crate) struct RawConnection {
    stream: TcpStream,
    /// Bytes that were read beyond the last response.
    buffer: Vec<u8>,
}

impl RawConnection {
    pub(crate) async fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Connects and sends these bytes.
    pub(crate) async fn send_new(server: &TestServer, bytes: impl AsRef<[u8]>) -> Self {
        let mut connection = Self::open(server).await;
        connection.send(bytes).await;
        connection
    }

    /// Connects from this address of the loopback network.
    pub(crate) async fn open_from(server: &TestServer, host: u8) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
        let stream = socket.connect(server.address().unwrap()).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes. The server may have closed the connection.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(WAIT_MAX, self.stream.write_all(bytes.as_ref())).await.expect("the server reads");
    }

    /// Reads until the end of a response head; returns it. `None`: the connection was closed first.
    pub(crate) async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if self.read_some().await == 0 {
                return None;
            }
        }
    }

    /// Reads a response with a `Content-Length`: its status and body.
    pub(crate) async fn read_response(&mut self) -> Option<(u16, String)> {
        let head = self.read_head().await?;
        let body = self.read_body_of(&head).await;
        Some((status(&head), body))
    }

    /// Reads the body of the response with this head.
    pub(crate) async fn read_body_of(&mut self, head: &str) -> String {
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while self.buffer.len() < length && self.read_some().await > 0 {}
        let body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        String::from_utf8(body).unwrap()
    }

    /// Reads until the server closes the connection; returns everything.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_some().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    async fn read_some(&mut self) -> usize {
        let read = timeout(WAIT_MAX, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("the server answers or closes the connection").unwrap_or(0)
    }

    /// Whether bytes were read that are no part of a response that was returned.
    pub(crate) fn has_received(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads what the server has sent, and returns whether it has closed the connection.
    pub(crate) async fn is_closed(&mut self) -> bool {
        loop {
            match timeout(Duration::from_millis(1), self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }
}

/// The status of a response head.
pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status line: {head}"))
}

/// A request head for this server, with further lines, each ended by CRLF.
pub(crate) fn head(server: &TestServer, request_line: &str, lines: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", server.address().unwrap())
}

/// The resident memory of the server, KiB.
pub(crate) fn resident_kib(server: &TestServer) -> u64 {
    memory_kib(server, "VmRSS:")
}

/// The most memory of the server that was resident at any time, KiB.
pub(crate) fn peak_resident_kib(server: &TestServer) -> u64 {
    memory_kib(server, "VmHWM:")
}

fn memory_kib(server: &TestServer, name: &str) -> u64 {
    let pid = server.server_pid().unwrap().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
