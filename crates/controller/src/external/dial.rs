//! Connects to an external desktop and does its handshakes: TLS, WebSocket, RFB.

use super::{
    DesktopEndpoint, Encryption, ExternalMachine,
    dial_error::DialError,
    handshake,
    websocket::{self, Subprotocol},
};
use anteroom_wire::time::to_millis;
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// RFB's greeting: `RFB 003.008\n` with any digits.
const GREETING_BYTES: usize = 12;
/// TCP keep-alive: a host that disappears is detected after the idle time and three probes, even without traffic.
const KEEPALIVE_IDLE_S: u64 = 20;
const KEEPALIVE_EVERY_S: u64 = 5;
const KEEPALIVE_PROBES: u32 = 3;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Opens the desktop. The returned stream starts with a greeting of RFB 3.8 for a viewer, whatever the desktop speaks. `view_only`: the viewer's
/// input is removed.
///
/// # Errors
/// [`DialError`], within the machine's `connect_ms_max` and `greeting_ms_max`.
pub async fn dial_desktop(machine: &ExternalMachine, view_only: bool) -> Result<Box<dyn Duplex>, DialError> {
    let started = Instant::now();
    connect_and_do_handshakes(machine, view_only).await.inspect_err(|error| {
        let after_ms = to_millis(started.elapsed());
        tracing::warn!(
            outcome = "external_unreachable", machine = machine.name, address = %machine.desktop_endpoint,
            reason = error.to_problem().code(), detail = %error, after_ms, "external desktop not opened"
        );
    })
}

async fn connect_and_do_handshakes(machine: &ExternalMachine, view_only: bool) -> Result<Box<dyn Duplex>, DialError> {
    let until = Instant::now() + Duration::from_millis(machine.connect_ms_max + machine.greeting_ms_max);
    match attempt(machine, view_only, Subprotocol::Binary, until).await {
        Err(DialError::NoSubprotocol(_)) => attempt(machine, view_only, Subprotocol::NotRequested, until).await,
        other => other,
    }
}

async fn attempt(
    machine: &ExternalMachine,
    view_only: bool,
    subprotocol: Subprotocol,
    until: Instant,
) -> Result<Box<dyn Duplex>, DialError> {
    let stream = connect(machine, until).await?;
    let ms_max = machine.greeting_ms_max;
    let until = until.min(Instant::now() + Duration::from_millis(ms_max));
    let opening = async {
        let stream: Box<dyn Duplex> = match &machine.encryption {
            Encryption::None | Encryption::Vencrypt(_) => Box::new(stream),
            Encryption::Tls(tls) => Box::new(tls.connect(stream).await?),
        };
        let (greeting, stream) = open(machine, subprotocol, stream).await?;
        handshake::handshake(machine, view_only, &greeting, stream).await
    };
    match timeout_at(until, opening).await {
        Ok(result) => result,
        Err(_) => Err(DialError::GreetingTimeout { ms_max }),
    }
}

/// Reads the greeting of the desktop, behind the WebSocket handshake if its address has one.
async fn open(
    machine: &ExternalMachine,
    subprotocol: Subprotocol,
    mut stream: Box<dyn Duplex>,
) -> Result<(Bytes, Box<dyn Duplex>), DialError> {
    let desktop = &machine.desktop_endpoint;
    if !desktop.scheme.is_websocket() {
        let greeting = read_greeting(&mut stream).await.map_err(|error| error.with_close_code(None))?;
        return Ok((greeting, stream));
    }
    let mut socket = websocket::handshake(desktop, machine.login.as_ref(), subprotocol, stream).await?;
    let greeting = read_greeting(&mut socket).await;
    let closed = socket.close_reason().map(|closing| closing.code);
    let greeting = greeting.map_err(|error| error.with_close_code(closed))?;
    Ok((greeting, Box::new(socket)))
}

async fn connect(machine: &ExternalMachine, until: Instant) -> Result<TcpStream, DialError> {
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
    let until = until.min(Instant::now() + Duration::from_millis(ms_max));
    let stream = match timeout_at(until, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(DialError::ConnectTimeout { ms_max }),
    };
    // Pointer and key messages are small. A socket option that cannot be set only affects latency and failure detection.
    let _ = stream.set_nodelay(true);
    let _ = keep_alive(&stream);
    Ok(stream)
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(KEEPALIVE_IDLE_S))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(KEEPALIVE_EVERY_S))?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
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
