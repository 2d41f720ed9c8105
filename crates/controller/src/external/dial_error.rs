//! Why an external desktop could not be opened.

use super::{security_types, tls::TlsFault, vencrypt::VencryptFault};
use anteroom_wire::Problem;
use rustix::io::Errno;
use std::io;
use tokio_tungstenite::tungstenite;

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
    #[error("it answered the WebSocket handshake with HTTP status {status}{}", status_advice(*status, *has_user))]
    HandshakeStatus {
        /// The HTTP status.
        status: u16,
        /// Whether a user and a password were sent.
        has_user: bool,
    },
    /// It accepts WebSockets, but names no subprotocol.
    #[error("it names no WebSocket subprotocol")]
    NoSubprotocol(#[source] tungstenite::Error),
    /// It names another subprotocol than the one that was asked for.
    #[error(
        "it answers with another WebSocket subprotocol than `binary`, for example `base64`: use a newer websockify there"
    )]
    OtherSubprotocol(#[source] tungstenite::Error),
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
    /// A greeting with a version before 3.3, or of a repeater.
    #[error("its RFB version is older than 3.3, or it is a repeater")]
    UnsupportedVersion,
    /// The stream ended between the greeting and the end of the handshake.
    #[error("it closed during the VNC handshake")]
    HandshakeEnded(#[source] io::Error),
    /// The handshake is not RFB's.
    #[error("its VNC handshake is invalid")]
    InvalidHandshake,
    /// It offers no security type that this server or its page supports.
    #[error("it offers only the security types {}; {}", security_types::list(offered), security_types::advice(offered))]
    SecurityUnsupported {
        /// The numbers of the types.
        offered: Vec<u8>,
    },
    /// It rejected the configured user or password.
    #[error("it rejected the user or password in the configuration{}", after_colon(reason))]
    PasswordRejected {
        /// The desktop's words, cleaned; may be empty.
        reason: String,
    },
    /// It refused the connection in its handshake.
    #[error("it refused the connection{}", after_colon(reason))]
    Rejected {
        /// The desktop's words, cleaned; may be empty.
        reason: String,
    },
}

fn after_colon(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// What to set for an HTTP status; a clause after it.
fn status_advice(status: u16, has_user: bool) -> &'static str {
    match status {
        401 if has_user => ": compare user and password_file with the desktop's",
        401 => ": it asks for a user and a password; set user and password_file",
        403 => ": it does not accept this host; allow it there",
        404 => ": nothing is at this path; correct the path of the address, often /websockify",
        _ => "",
    }
}

impl From<VencryptFault> for DialError {
    fn from(fault: VencryptFault) -> Self {
        Self::Vencrypt(fault)
    }
}

impl DialError {
    /// The problem for an API error; its close code is 4502, or 4511 if no attempt can succeed.
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
            Self::HandshakeClosed(_) | Self::HandshakeEnded(_) | Self::Closed { .. } => Problem::ExternalClosed,
            Self::HandshakeStatus { status: 401, .. } | Self::PasswordRejected { .. } => {
                Problem::ExternalPasswordRejected
            }
            Self::HandshakeStatus { status: 403, .. } | Self::Rejected { .. } => Problem::ExternalRejected,
            Self::SecurityUnsupported { .. } => Problem::ExternalSecurityUnsupported,
            Self::HandshakeStatus { .. }
            | Self::HandshakeInvalid(_)
            | Self::NoSubprotocol(_)
            | Self::OtherSubprotocol(_)
            | Self::UnsupportedVersion
            | Self::InvalidHandshake
            | Self::InvalidGreeting => Problem::ExternalWrongProtocol,
        }
    }
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
