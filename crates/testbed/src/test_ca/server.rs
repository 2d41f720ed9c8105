//! One loopback address that answers under many names, and asking it under one of them.

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
    /// No port, or a name that is none.
    pub async fn start(ca: &TestCa, names: &[&str], router: Router) -> io::Result<Self> {
        let acceptor = ca.acceptor(names)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, acceptor, router));
        Ok(Self { address, names: names.iter().map(|&name| name.to_owned()).collect(), task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the egress gate is to answer: `name:443` for every name.
    pub fn answers(&self) -> BTreeMap<String, SocketAddr> {
        self.names.iter().map(|name| (format!("{name}:443"), self.address)).collect()
    }

    /// Stops listening and drops every connection; done when it has.
    pub async fn finish(mut self) {
        self.task.abort();
        // It ends as cancelled, which is what was asked for.
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
                // A tool that breaks off has what it wanted.
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
    /// Asks the server at `address` for what `request` names (`https://name/path`), as a browser or a tool would that was
    /// led there. Redirections are not followed.
    ///
    /// # Errors
    /// The address is no https address, the name is not the server's, or the exchange breaks or takes half a minute.
    pub async fn ask(&self, address: SocketAddr, request: Request<String>) -> anyhow::Result<Response<Bytes>> {
        timeout(Duration::from_millis(ANSWER_MS_MAX), self.exchange(address, request)).await?
    }

    async fn exchange(&self, address: SocketAddr, request: Request<String>) -> anyhow::Result<Response<Bytes>> {
        let (mut head, body) = request.into_parts();
        ensure!(head.uri.scheme_str() == Some("https"), "{} is no https address", head.uri);
        let host = head.uri.host().context("the address has no host")?.to_owned();
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
