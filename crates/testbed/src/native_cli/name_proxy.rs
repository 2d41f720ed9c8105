//! The HTTP proxy of a tool. It connects only to hosts for which the test has an address, as the agent's proxy and the egress gate
//! with overrides do.

use parking_lot::Mutex;
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_MS_MAX: u64 = 30_000;

/// A proxy for `CONNECT`. Stops, with every connection, when dropped.
#[derive(Debug)]
pub struct NameProxy {
    address: SocketAddr,
    requested: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameProxy {
    /// Connects each `name:port` of `host_overrides` to its address.
    ///
    /// # Errors
    /// No port.
    pub async fn start(host_overrides: BTreeMap<String, SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requested = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, Arc::new(host_overrides), requested.clone()));
        Ok(Self { address, requested, task })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The targets of the requests, in order: `name:port`, or the first line of a request that is no `CONNECT`.
    pub fn requested_targets(&self) -> Vec<String> {
        self.requested.lock().clone()
    }
}

impl Drop for NameProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    host_overrides: Arc<BTreeMap<String, SocketAddr>>,
    requested: Arc<Mutex<Vec<String>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (host_overrides, requested) = (host_overrides.clone(), requested.clone());
        // An error means that the tool has closed the connection.
        connections.spawn(async move { connect(stream, &host_overrides, &requested).await.unwrap_or_default() });
    }
}

async fn connect(
    mut client: TcpStream,
    host_overrides: &BTreeMap<String, SocketAddr>,
    requested: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let head = timeout(Duration::from_millis(HEAD_MS_MAX), head(&mut client)).await??;
    let line = head.lines().next().unwrap_or_default();
    let mut parts = line.split(' ');
    let target = match (parts.next(), parts.next()) {
        (Some("CONNECT"), Some(target)) => target.to_ascii_lowercase(),
        (_, _) => line.to_owned(),
    };
    let address = host_overrides.get(&target).copied();
    requested.lock().push(target);
    let Some(address) = address else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let mut host = TcpStream::connect(address).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut host).await?;
    Ok(())
}

/// Reads the head of the request. No bytes of the tunnel follow it, because the client waits for the response first.
async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
