//! Connects to an external desktop and reads its RFB greeting.

use super::{Address, ExternalMachine, Scheme};
use anteroom_rfb::client::ViewerSocket;
use anteroom_tunnel::PrefixedStream;
use anteroom_wire::{Problem, time::millis};
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

/// Why an external desktop could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct DialFailure {
    /// The cause; its close code is 4502.
    pub problem: Problem,
    /// What happened, without an address.
    pub detail: String,
    /// Time since the attempt started, milliseconds.
    pub after_ms: u64,
}

/// The cause and the detail of a failure.
type ProblemWithDetail = (Problem, String);

/// Opens the desktop. The returned stream starts with the greeting.
///
/// # Errors
/// [`DialFailure`], within the machine's `connect_ms_max` and `greeting_ms_max`.
pub async fn dial(machine: &ExternalMachine) -> Result<PrefixedStream<Box<dyn Duplex>>, DialFailure> {
    let started = Instant::now();
    connect_and_read_greeting(machine).await.map_err(|(problem, detail)| {
        let after_ms = millis(started.elapsed());
        tracing::warn!(
            outcome = "external_unreachable", machine = machine.name, address = %machine.desktop,
            reason = problem.code(), detail, after_ms, "external desktop not opened"
        );
        DialFailure { problem, detail, after_ms }
    })
}

async fn connect_and_read_greeting(
    machine: &ExternalMachine,
) -> Result<PrefixedStream<Box<dyn Duplex>>, ProblemWithDetail> {
    let stream = connect(machine).await?;
    let greeting_ms_max = machine.greeting_ms_max;
    let greeting = async {
        match machine.desktop.scheme {
            Scheme::Vnc => {
                let mut stream: Box<dyn Duplex> = Box::new(stream);
                let greeting = read_greeting(&mut stream).await.map_err(|error| error.problem(None))?;
                Ok(PrefixedStream::new(greeting, stream))
            }
            Scheme::Ws => {
                let mut socket = websocket_handshake(&machine.desktop, stream).await?;
                let greeting = read_greeting(&mut socket).await;
                let closed = socket.close_reason().map(|closing| closing.code);
                let greeting = greeting.map_err(|error| error.problem(closed))?;
                Ok(PrefixedStream::new(greeting, Box::new(socket) as Box<dyn Duplex>))
            }
        }
    };
    match timeout(Duration::from_millis(greeting_ms_max), greeting).await {
        Ok(result) => result,
        Err(_) => Err((Problem::ExternalSilent, format!("no VNC greeting within {greeting_ms_max} ms"))),
    }
}

async fn connect(machine: &ExternalMachine) -> Result<TcpStream, ProblemWithDetail> {
    let Address { host, port, .. } = &machine.desktop;
    let connecting = async {
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
        // The resolver's message may contain the name, so it is not reported.
        let addresses = addresses.map_err(|_| (Problem::ExternalNoRoute, "its name cannot be resolved".to_owned()))?;
        let mut last = (Problem::ExternalNoRoute, "its name has no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = connect_problem(&error),
            }
        }
        Err(last)
    };
    let limit = machine.connect_ms_max;
    let stream = match timeout(Duration::from_millis(limit), connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err((Problem::ExternalTimeout, format!("no connection within {limit} ms"))),
    };
    // Pointer and key messages are small. A socket option that cannot be set only affects latency and failure detection.
    let _ = stream.set_nodelay(true);
    let _ = keep_alive(&stream);
    Ok(stream)
}

/// The problem for a connect error.
fn connect_problem(error: &io::Error) -> ProblemWithDetail {
    let problem = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => Problem::ExternalRefused,
        Some(Errno::TIMEDOUT) => Problem::ExternalTimeout,
        // No route, no network, an address family that this host does not have, or an ICMP error of a firewall.
        Some(_) | None => Problem::ExternalNoRoute,
    };
    (problem, error.to_string())
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(KEEPALIVE_IDLE_S))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(KEEPALIVE_EVERY_S))?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

/// The WebSocket handshake, as a client of websockify.
async fn websocket_handshake(desktop: &Address, stream: TcpStream) -> Result<ViewerSocket, ProblemWithDetail> {
    let url = format!("ws://{}{}", desktop.authority(), desktop.path);
    ViewerSocket::handshake(stream, &url, anteroom_tunnel::SUBPROTOCOL, MESSAGE_BYTES_MAX)
        .await
        .map_err(|error| handshake_problem(&error))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "any other answer is not a WebSocket handshake")]
fn handshake_problem(error: &tungstenite::Error) -> ProblemWithDetail {
    use tungstenite::Error;
    match error {
        Error::Http(response) => (
            Problem::ExternalWrongProtocol,
            format!("it answered the WebSocket handshake with HTTP status {}", response.status().as_u16()),
        ),
        Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            (Problem::ExternalClosed, "it closed during the WebSocket handshake".to_owned())
        }
        _ => (Problem::ExternalWrongProtocol, "its answer to the WebSocket handshake is invalid".to_owned()),
    }
}

/// Why no greeting was received.
enum GreetingError {
    /// The stream ended before the first byte.
    Closed,
    /// The bytes are not a greeting.
    Invalid,
}

impl GreetingError {
    /// `closed`: the code of the WebSocket's close frame.
    fn problem(self, closed: Option<u16>) -> ProblemWithDetail {
        let code = closed.map_or_else(String::new, |code| format!(" (WebSocket close code {code})"));
        match self {
            Self::Closed => (Problem::ExternalClosed, format!("it closed before its greeting{code}")),
            Self::Invalid => {
                (Problem::ExternalWrongProtocol, "its first bytes are not the greeting of a VNC server".to_owned())
            }
        }
    }
}

/// Reads exactly the greeting; fails at the first wrong byte.
async fn read_greeting<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Bytes, GreetingError> {
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
