//! The listening sockets of a server, and the certificate of TLS.

use anteroom_controller::{config::Config, tls::TlsCertificate};
use anyhow::Context;
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

/// What listens on TCP.
pub(crate) struct Listeners {
    /// Pages and API.
    pub(crate) main: TcpListener,
    /// Redirects plain HTTP.
    pub(crate) redirect: Option<TcpListener>,
    /// `None`: plain HTTP.
    pub(crate) certificate: Option<Arc<TlsCertificate>>,
}

impl Listeners {
    /// Opens those of this configuration.
    ///
    /// # Errors
    /// An address is in use, or the certificate cannot be used.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let certificate = TlsCertificate::open(config).context("tls")?.map(Arc::new);
        let main = bind(config.listen, "`listen` or --listen").await?;
        let redirect = match config.tls.redirect_listen {
            Some(address) => Some(bind(address, "tls.redirect_listen").await?),
            None => None,
        };
        Ok(Self { main, redirect, certificate })
    }
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}: is another server there? Set {setting}"))
}
