//! Floods of connections and bodies, from several addresses.

use crate::bench::{Bench, left_until};
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Addresses that the connections come from: limits by address do not suffice.
const ADDRESSES: u8 = 16;
const HTTP2_REQUESTS: usize = 200;
const HTTP2_CHUNK_BYTES: usize = 16 * 1024;

impl Bench {
    /// Opens connections, sends these bytes on each as far as the server accepts them, and keeps the connections.
    pub(crate) async fn flood_connections(&self, count: usize, bytes: Vec<u8>) -> anyhow::Result<String> {
        let (server, bytes, end) = (self.server.address()?, Bytes::from(bytes), Instant::now() + self.duration);
        let mut writing = JoinSet::new();
        for number in 0..count {
            let mut connection = connect_from(number, server).await?;
            let bytes = bytes.clone();
            writing.spawn(async move {
                // The server may have closed it already.
                let _ = timeout(left_until(end), connection.write_all(&bytes)).await;
                connection
            });
        }
        let connections = writing.join_all().await;
        sleep(left_until(end)).await;
        let open = connections.iter().filter(|connection| is_open(connection)).count();
        Ok(format!("{open} of {count} open at the end"))
    }

    /// Sends bodies without their last byte on one HTTP/2 connection.
    pub(crate) async fn flood_http2(&self) -> anyhow::Result<String> {
        let (server, sent) = (self.server.address()?, Arc::new(AtomicUsize::new(0)));
        let connection = TokioIo::new(connect_from(0, server).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), connection).await?;
        let connection = tokio::spawn(connection);
        let mut requests = JoinSet::new();
        for _ in 0..HTTP2_REQUESTS {
            let (mut sender, sent) = (sender.clone(), Arc::clone(&sent));
            let chunks = (1 << 20) / HTTP2_CHUNK_BYTES - 1;
            let chunk = move |_| {
                sent.fetch_add(HTTP2_CHUNK_BYTES, Relaxed);
                Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; HTTP2_CHUNK_BYTES])))
            };
            let body = StreamBody::new(stream::iter(0..chunks).map(chunk).chain(stream::pending()));
            let request = Request::post(format!("http://{server}/api/auth/credentials/store"))
                .header("content-type", "application/json")
                .header("content-length", 1 << 20)
                .body(body)?;
            requests.spawn(async move { sender.send_request(request).await.map(|answer| answer.status()) });
        }
        sleep(self.duration).await;
        let mut answered = 0;
        while let Some(answer) = requests.try_join_next() {
            answered += usize::from(answer?.is_ok());
        }
        connection.abort();
        Ok(format!("{} MiB sent, {answered} of {HTTP2_REQUESTS} answered", sent.load(Relaxed) >> 20))
    }
}

async fn connect_from(number: usize, server: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = 2 + u8::try_from(number % usize::from(ADDRESSES))?;
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into())?;
    Ok(socket.connect(server).await?)
}

fn is_open(connection: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match connection.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}
