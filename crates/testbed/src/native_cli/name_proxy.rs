//! The proxy that a tool is given: it leads names to where the test says and nowhere else, as the agent's proxy and the
//! egress gate do.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
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
    reached: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameProxy {
    /// Leads each `name:port` of `answers` to its address.
    ///
    /// # Errors
    /// No port.
    pub async fn start(answers: BTreeMap<String, SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let reached = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, Arc::new(answers), reached.clone()));
        Ok(Self { address, reached, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked for, in order: `name:port`, or the first line of what is no `CONNECT`.
    pub fn reached(&self) -> Vec<String> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for NameProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answers: Arc<BTreeMap<String, SocketAddr>>, reached: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (answers, reached) = (answers.clone(), reached.clone());
        // A tool that breaks off has what it wanted.
        connections.spawn(async move { lead(stream, &answers, &reached).await.unwrap_or_default() });
    }
}

async fn lead(
    mut near: TcpStream,
    answers: &BTreeMap<String, SocketAddr>,
    reached: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let head = timeout(Duration::from_millis(HEAD_MS_MAX), head(&mut near)).await??;
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let place = match (words.next(), words.next()) {
        (Some("CONNECT"), Some(place)) => place.to_ascii_lowercase(),
        (_, _) => line.to_owned(),
    };
    let far = answers.get(&place).copied();
    reached.lock().unwrap_or_else(PoisonError::into_inner).push(place);
    let Some(far) = far else {
        return near.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let mut far = TcpStream::connect(far).await?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

/// The request's head. Nothing of the tunnel is behind it: the tool waits for the answer first.
async fn head(near: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if near.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
