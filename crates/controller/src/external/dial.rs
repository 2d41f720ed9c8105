//! Connects to an external desktop and reads its RFB greeting.

use super::{
    DesktopEndpoint, Encryption, ExternalMachine,
    tls::TlsFault,
    vencrypt::{self, VencryptFault},
};
use anteroom_rfb::client::ViewerSocket;
use anteroom_tunnel::PrefixedStream;
use anteroom_wire::{Problem, time::to_millis};
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

/// RFB's greeting: `RFB 003.008\n` with any digits.
const GREETING_BYTES: usize = 12;
/// The largest WebSocket message that is accepted; websockify sends at most 64 KiB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// TCP keep-alive: a host that disappears is detected after the idle time and three probes, even without traffic.
const KEEPALIVE_IDLE_S: u64 = 20;
const KEEPALIVE_EVERY_S: u64 = 5;
const KEEPALIVE_PROBES: u32 = 3;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Why an external desktop could not be opened. The sentence contains no address; a source may.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name server does not resolve its name.
    #[error("its name cannot be resolved")]
    NotResolved(#[source] io::Error),
    /// The name server has no address of the name.
    #[error("its name has no address")]
    NoAddress,
    /// The TCP connection failed.
    #[error(transparent)]
    NotConnected(io::Error),
    /// There was no TCP connection in time.
    #[error("no connection within {ms_max} ms")]
    ConnectTimeout {
        /// The timeout, milliseconds.
        ms_max: u64,
    },
    /// There was no greeting in time.
    #[error("no VNC greeting within {ms_max} ms")]
    GreetingTimeout {
        /// The timeout, milliseconds.
        ms_max: u64,
    },
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// VeNCrypt's handshake failed.
    #[error(transparent)]
    Vencrypt(VencryptFault),
    /// The WebSocket handshake was answered with an HTTP error.
    #[error("it answered the WebSocket handshake with HTTP status {0}")]
    HandshakeStatus(u16),
    /// The stream ended during the WebSocket handshake.
    #[error("it closed during the WebSocket handshake")]
    HandshakeClosed(#[source] tungstenite::Error),
    /// The answer is not that of a WebSocket server.
    #[error("its answer to the WebSocket handshake is invalid")]
    HandshakeInvalid(#[source] tungstenite::Error),
    /// The stream ended before the first byte of the greeting.
    #[error("it closed before its greeting{}", close_code.map_or_else(String::new, |code| format!(" (WebSocket close code {code})")))]
    Closed {
        /// The code of the WebSocket's close frame.
        close_code: Option<u16>,
    },
    /// The bytes are not a greeting.
    #[error("its first bytes are not the greeting of a VNC server")]
    InvalidGreeting,
}

impl DialError {
    /// The problem for an API error; its close code is 4502.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::NotResolved(_) | Self::NoAddress => Problem::ExternalNoRoute,
            Self::NotConnected(error) => connect_problem(error),
            Self::ConnectTimeout { .. } => Problem::ExternalTimeout,
            Self::GreetingTimeout { .. } => Problem::ExternalSilent,
            Self::Tls(fault) | Self::Vencrypt(VencryptFault::Tls(fault)) if fault.is_certificate() => {
                Problem::ExternalCertificate
            }
            Self::Tls(_) | Self::Vencrypt(_) => Problem::ExternalNoTls,
            Self::HandshakeClosed(_) | Self::Closed { .. } => Problem::ExternalClosed,
            Self::HandshakeStatus(_) | Self::HandshakeInvalid(_) | Self::InvalidGreeting => {
                Problem::ExternalWrongProtocol
            }
        }
    }
}

/// Opens the desktop. The returned stream starts with the greeting.
///
/// # Errors
/// [`DialError`], within the machine's `connect_ms_max` and `greeting_ms_max`.
pub async fn dial_desktop(machine: &ExternalMachine) -> Result<PrefixedStream<Box<dyn Duplex>>, DialError> {
    let started = Instant::now();
    connect_and_read_greeting(machine).await.inspect_err(|error| {
        let after_ms = to_millis(started.elapsed());
        tracing::warn!(
            outcome = "external_unreachable", machine = machine.name, address = %machine.desktop_endpoint,
            reason = error.to_problem().code(), detail = %error, after_ms, "external desktop not opened"
        );
    })
}

async fn connect_and_read_greeting(machine: &ExternalMachine) -> Result<PrefixedStream<Box<dyn Duplex>>, DialError> {
    let stream = connect(machine).await?;
    let ms_max = machine.greeting_ms_max;
    let greeting = async {
        match &machine.encryption {
            Encryption::None => open(&machine.desktop_endpoint, stream).await,
            Encryption::Tls(tls) => open(&machine.desktop_endpoint, tls.connect(stream).await?).await,
            Encryption::Vencrypt(tls) => {
                let mut stream = stream;
                let greeting = read_greeting(&mut stream).await.map_err(|error| error.with_close_code(None))?;
                let stream = vencrypt::open(tls, &greeting, stream).await.map_err(DialError::Vencrypt)?;
                Ok(PrefixedStream::new(Bytes::new(), Box::new(stream) as Box<dyn Duplex>))
            }
        }
    };
    match timeout(Duration::from_millis(ms_max), greeting).await {
        Ok(result) => result,
        Err(_) => Err(DialError::GreetingTimeout { ms_max }),
    }
}

/// Opens the desktop at the other end of an unencrypted stream or inside TLS.
async fn open<S>(desktop: &DesktopEndpoint, stream: S) -> Result<PrefixedStream<Box<dyn Duplex>>, DialError>
where
    S: Duplex + 'static,
{
    if !desktop.scheme.is_websocket() {
        let mut stream: Box<dyn Duplex> = Box::new(stream);
        let greeting = read_greeting(&mut stream).await.map_err(|error| error.with_close_code(None))?;
        return Ok(PrefixedStream::new(greeting, stream));
    }
    let mut socket = websocket_handshake(desktop, stream).await?;
    let greeting = read_greeting(&mut socket).await;
    let closed = socket.close_reason().map(|closing| closing.code);
    let greeting = greeting.map_err(|error| error.with_close_code(closed))?;
    Ok(PrefixedStream::new(greeting, Box::new(socket) as Box<dyn Duplex>))
}

async fn connect(machine: &ExternalMachine) -> Result<TcpStream, DialError> {
    let DesktopEndpoint { host, port, .. } = &machine.desktop_endpoint;
    let connecting = async {
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
        let mut last = DialError::NoAddress;
        // The resolver's message may contain the name, so only the source has it.
        for address in addresses.map_err(DialError::NotResolved)? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = DialError::NotConnected(error),
            }
        }
        Err(last)
    };
    let ms_max = machine.connect_ms_max;
    let stream = match timeout(Duration::from_millis(ms_max), connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(DialError::ConnectTimeout { ms_max }),
    };
    // Pointer and key messages are small. A socket option that cannot be set only affects latency and failure detection.
    let _ = stream.set_nodelay(true);
    let _ = keep_alive(&stream);
    Ok(stream)
}

/// The problem for a connect error.
fn connect_problem(error: &io::Error) -> Problem {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => Problem::ExternalRefused,
        Some(Errno::TIMEDOUT) => Problem::ExternalTimeout,
        // No route, no network, an address family that this host does not have, or an ICMP error of a firewall.
        Some(_) | None => Problem::ExternalNoRoute,
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(KEEPALIVE_IDLE_S))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(KEEPALIVE_EVERY_S))?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

/// The WebSocket handshake, as a client of websockify.
async fn websocket_handshake<S>(desktop: &DesktopEndpoint, stream: S) -> Result<ViewerSocket<S>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let scheme = if desktop.scheme.is_encrypted() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{}", desktop.authority(), desktop.path);
    ViewerSocket::connect_over(stream, &url, anteroom_tunnel::WEBSOCKET_SUBPROTOCOL, MESSAGE_BYTES_MAX)
        .await
        .map_err(handshake_error)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "any other answer is not a WebSocket handshake")]
fn handshake_error(error: tungstenite::Error) -> DialError {
    use tungstenite::Error;
    match error {
        Error::Http(response) => DialError::HandshakeStatus(response.status().as_u16()),
        Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            DialError::HandshakeClosed(error)
        }
        _ => DialError::HandshakeInvalid(error),
    }
}

/// Why no greeting was received.
#[derive(Debug)]
pub(super) enum GreetingError {
    /// The stream ended before the first byte.
    Closed,
    /// The bytes are not a greeting.
    Invalid,
}

impl GreetingError {
    /// `close_code`: the code of the WebSocket's close frame.
    fn with_close_code(self, close_code: Option<u16>) -> DialError {
        match self {
            Self::Closed => DialError::Closed { close_code },
            Self::Invalid => DialError::InvalidGreeting,
        }
    }
}

/// Reads exactly the greeting; fails at the first wrong byte.
pub(super) async fn read_greeting<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Bytes, GreetingError> {
    let mut greeting = BytesMut::with_capacity(GREETING_BYTES);
    while greeting.len() < GREETING_BYTES {
        let missing = (GREETING_BYTES - greeting.len()) as u64;
        let count = (&mut *stream).take(missing).read_buf(&mut greeting).await.unwrap_or(0);
        if !is_greeting_prefix(&greeting) {
            return Err(GreetingError::Invalid);
        }
        if count == 0 {
            return Err(if greeting.is_empty() { GreetingError::Closed } else { GreetingError::Invalid });
        }
    }
    Ok(greeting.freeze())
}

/// Whether the bytes are the start of a greeting.
fn is_greeting_prefix(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"RFB ddd.ddd\n").all(|(byte, pattern)| match pattern {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    })
}
