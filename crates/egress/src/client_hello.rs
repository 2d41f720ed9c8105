//! The name in the TLS handshake of a connection: it must be the one that was granted. Otherwise a granted name on a shared front
//! could lead to another customer of that front.
//!
//! The outer name of an encrypted ClientHello is checked as well. A ClientHello after a `HelloRetryRequest` is not looked at: it is bound to
//! the first one (RFC 8446 §4.1.2).

use rustls::server::Acceptor;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest ClientHello, bytes. With post-quantum key shares and a session ticket one has about 4 KiB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;

/// A fatal `unrecognized_name` alert (RFC 6066 §3), so that a browser shows the cause.
pub(crate) const UNRECOGNIZED_NAME_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a connection may not continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientHelloError {
    /// The machine sent something else than a ClientHello.
    #[error("it does not begin with a TLS ClientHello ({0})")]
    NotTls(String),
    /// The ClientHello has no server name.
    #[error("its TLS ClientHello names no host")]
    NoName,
    /// The ClientHello names another host.
    #[error("its TLS ClientHello names {found}, and {granted} was granted")]
    OtherName {
        /// The name in it.
        found: String,
        /// The name that was granted.
        granted: String,
    },
    /// The machine closed the connection first.
    #[error("the connection ended before its TLS ClientHello")]
    Ended(#[source] io::Error),
}

/// Reads a ClientHello, which may come in any number of pieces and records, and checks its name. Returns all bytes that were read.
pub(crate) async fn read_client_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    granted: &str,
) -> Result<Vec<u8>, ClientHelloError> {
    let mut acceptor = Acceptor::default();
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let length = stream.read(&mut chunk).await.map_err(ClientHelloError::Ended)?;
        if length == 0 {
            return Err(ClientHelloError::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut rest = &chunk[..length];
        bytes.extend_from_slice(rest);
        if bytes.len() > CLIENT_HELLO_BYTES_MAX {
            let why = format!("more than {CLIENT_HELLO_BYTES_MAX} bytes");
            return Err(ClientHelloError::NotTls(why));
        }
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).map_err(|error| ClientHelloError::NotTls(error.to_string()))?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    require_name(accepted.client_hello().server_name(), granted)?;
                    return Ok(bytes);
                }
                Err((error, _alert)) => return Err(ClientHelloError::NotTls(error.to_string())),
            }
        }
    }
}

fn require_name(found: Option<&str>, granted: &str) -> Result<(), ClientHelloError> {
    let found = found.ok_or(ClientHelloError::NoName)?;
    if found.trim_end_matches('.').eq_ignore_ascii_case(granted.trim_end_matches('.')) {
        return Ok(());
    }
    Err(ClientHelloError::OtherName { found: found.to_owned(), granted: granted.to_owned() })
}
