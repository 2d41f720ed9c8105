//! Dialling an external desktop: to an open stream that has greeted as a VNC server does, or to a fault by name.

use super::{Address, ExternalMachine, Scheme};
use crate::{rfb::ViewerSocket, tunnel::PrefixedStream};
use anteroom_wire::Problem;
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
/// The largest message of a websockify; its own are at most 64 KiB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A machine that vanishes without a word is noticed after this and three probes, also while nobody moves the pointer.
const KEEPALIVE_IDLE_S: u64 = 20;
const KEEPALIVE_EVERY_S: u64 = 5;
const KEEPALIVE_PROBES: u32 = 3;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Why an external desktop could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct Fault {
    /// The cause; its close code is 4502.
    pub problem: Problem,
    /// What was seen, without an address.
    pub detail: String,
    /// Since dialling began, milliseconds.
    pub after_ms: u64,
}

/// The cause and what was seen.
type Seen = (Problem, String);

/// Opens the desktop. What it said (the greeting) is read first from the stream.
///
/// # Errors
/// [`Fault`], within the machine's `connect_ms_max` and `greeting_ms_max`.
pub async fn dial(machine: &ExternalMachine) -> Result<PrefixedStream<Box<dyn Duplex>>, Fault> {
    let began = Instant::now();
    open(machine).await.map_err(|(problem, detail)| {
        let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            outcome = "external_unreachable", machine = machine.name, address = %machine.desktop,
            reason = problem.code(), detail, after_ms, "an external desktop could not be opened"
        );
        Fault { problem, detail, after_ms }
    })
}

async fn open(machine: &ExternalMachine) -> Result<PrefixedStream<Box<dyn Duplex>>, Seen> {
    let stream = connect(machine).await?;
    let greeting_ms_max = machine.greeting_ms_max;
    let greeted = async {
        match machine.desktop.scheme {
            Scheme::Vnc => {
                let mut stream: Box<dyn Duplex> = Box::new(stream);
                let said = greeting(&mut stream).await.map_err(|why| why.told(None))?;
                Ok(PrefixedStream::new(said, stream))
            }
            Scheme::Ws => {
                let mut socket = shake_hands(&machine.desktop, stream).await?;
                let said = greeting(&mut socket).await;
                let closed = socket.closing().map(|closing| closing.code);
                let said = said.map_err(|why| why.told(closed))?;
                Ok(PrefixedStream::new(said, Box::new(socket) as Box<dyn Duplex>))
            }
        }
    };
    match timeout(Duration::from_millis(greeting_ms_max), greeted).await {
        Ok(greeted) => greeted,
        Err(_) => Err((Problem::ExternalSilent, format!("no greeting of a VNC server in {greeting_ms_max} ms"))),
    }
}

async fn connect(machine: &ExternalMachine) -> Result<TcpStream, Seen> {
    let Address { host, port, .. } = &machine.desktop;
    let connecting = async {
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
        // The resolver's own words may hold the name: only that it failed is said.
        let addresses = addresses.map_err(|_| (Problem::ExternalNoRoute, "its name cannot be resolved".to_owned()))?;
        let mut last = (Problem::ExternalNoRoute, "its name has no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = not_connected(&error),
            }
        }
        Err(last)
    };
    let limit = machine.connect_ms_max;
    let stream = match timeout(Duration::from_millis(limit), connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err((Problem::ExternalTimeout, format!("no connection in {limit} ms"))),
    };
    // Pointer and keys are small; what cannot be set costs comfort only.
    let _ = stream.set_nodelay(true);
    let _ = keep_alive(&stream);
    Ok(stream)
}

/// What the kernel said about a connection that was not made.
fn not_connected(error: &io::Error) -> Seen {
    let problem = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => Problem::ExternalRefused,
        Some(Errno::TIMEDOUT) => Problem::ExternalTimeout,
        // No route, no network, an address of a family that this host does not have, a firewall's word.
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
async fn shake_hands(desktop: &Address, stream: TcpStream) -> Result<ViewerSocket, Seen> {
    let url = format!("ws://{}{}", desktop.authority(), desktop.path);
    ViewerSocket::over(stream, &url, crate::tunnel::SUBPROTOCOL, MESSAGE_BYTES_MAX)
        .await
        .map_err(|error| no_socket(&error))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is answered, it is no WebSocket")]
fn no_socket(error: &tungstenite::Error) -> Seen {
    use tungstenite::Error;
    match error {
        Error::Http(response) => (
            Problem::ExternalWrongProtocol,
            format!("it answers the WebSocket handshake with HTTP status {}", response.status().as_u16()),
        ),
        Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            (Problem::ExternalClosed, "it closed during the WebSocket handshake".to_owned())
        }
        _ => (
            Problem::ExternalWrongProtocol,
            "it does not answer the WebSocket handshake as a websockify does".to_owned(),
        ),
    }
}

/// Why there was no greeting.
enum NoGreeting {
    /// The stream ended before a byte.
    Closed,
    /// Other bytes came.
    Other,
}

impl NoGreeting {
    /// In words; `closed`: the code of the WebSocket's close.
    fn told(self, closed: Option<u16>) -> Seen {
        let code = closed.map_or_else(String::new, |code| format!(" (WebSocket close code {code})"));
        match self {
            Self::Closed => (Problem::ExternalClosed, format!("it closed before its greeting{code}")),
            Self::Other => {
                (Problem::ExternalWrongProtocol, "its first words are not the greeting of a VNC server".to_owned())
            }
        }
    }
}

/// Reads the greeting, and not a byte after it; gives up at the first byte that does not fit.
async fn greeting<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Bytes, NoGreeting> {
    let mut said = BytesMut::with_capacity(GREETING_BYTES);
    while said.len() < GREETING_BYTES {
        let room = (GREETING_BYTES - said.len()) as u64;
        let count = (&mut *stream).take(room).read_buf(&mut said).await.unwrap_or(0);
        if !fits(&said) {
            return Err(NoGreeting::Other);
        }
        if count == 0 {
            return Err(if said.is_empty() { NoGreeting::Closed } else { NoGreeting::Other });
        }
    }
    Ok(said.freeze())
}

/// Whether these are the first bytes of a greeting.
fn fits(said: &[u8]) -> bool {
    said.iter().zip(b"RFB ddd.ddd\n").all(|(byte, pattern)| match pattern {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    })
}
