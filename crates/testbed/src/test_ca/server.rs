//! An HTTPS server with many host names on one loopback address, and a client for it.

use super::TestCa;
use anyhow::{Context, ensure};
use axum::Router;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::ServerName};

const HANDSHAKE_MS_MAX: u64 = 30_000;
const HEAD_MS_MAX: u64 = 30_000;
const ANSWER_MS_MAX: u64 = 30_000;

/// An HTTPS server. Stops, with every connection, when dropped.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    names: Vec<String>,
    task: JoinHandle<()>,
}

impl TlsServer {
    /// Serves `router` for all `names` on one free loopback port.
    ///
    /// # Errors
    /// No port, or an invalid name.
    pub async fn start(ca: &TestCa, names: &[&str], router: Router) -> io::Result<Self> {
        let acceptor = ca.acceptor(names)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, acceptor, router));
        Ok(Self { address, names: names.iter().map(|&name| name.to_owned()).collect(), task })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The egress gate's overrides for this server: `name:443` for every name.
    pub fn host_overrides(&self) -> BTreeMap<String, SocketAddr> {
        self.names.iter().map(|name| (format!("{name}:443"), self.address)).collect()
    }

    /// Closes the port and every connection, and returns when that is done.
    pub async fn stop(mut self) {
        self.task.abort();
        // The error is that the task was cancelled.
        let _ = (&mut self.task).await;
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        connections.spawn(async move {
            let handshake = timeout(Duration::from_millis(HANDSHAKE_MS_MAX), acceptor.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                // An error means that the client has closed the connection.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                    .await;
            }
        });
    }
}

impl TestCa {
    /// Sends a request for `https://name/path` to the server at `address`. Redirects are not followed.
    ///
    /// # Errors
    /// The URL is not https, the server has another name, or there is no response within half a minute.
    pub async fn request(&self, address: SocketAddr, request: Request<String>) -> anyhow::Result<Response<Bytes>> {
        timeout(Duration::from_millis(ANSWER_MS_MAX), self.exchange(address, request)).await?
    }

    async fn exchange(&self, address: SocketAddr, request: Request<String>) -> anyhow::Result<Response<Bytes>> {
        let (mut head, body) = request.into_parts();
        ensure!(head.uri.scheme_str() == Some("https"), "{} is no https URL", head.uri);
        let host = head.uri.host().context("the URL has no host")?.to_owned();
        head.headers.insert(http::header::HOST, host.parse()?);
        head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let stream = TcpStream::connect(address).await?;
        let stream = self.connector()?.connect(ServerName::try_from(host)?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(Request::from_parts(head, Full::<Bytes>::from(body))).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Response::from_parts(head, body))
    }
}
