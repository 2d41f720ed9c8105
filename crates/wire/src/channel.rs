//! The two byte channels of a machine: names, the resync that starts each connection, and HTTP/2's windows.
//!
//! A new controller may find half a frame of its predecessor in the pipe. So each (re)connection begins:
//!
//! ```text
//!  host   ── \nN <32 hex>\n ──▶ agent        a fresh nonce; whatever the host reads before the echo is thrown away
//!  host   ◀── \nE <same>\n ──── agent        the agent answers every nonce it sees
//!  host   ── \nG <same>\n ──▶  agent         "go": from here on HTTP/2, both ways
//! ```
//!
//! No echo within [`ECHO_MS_MAX`]: the host sends [`PAD_BYTES`] newlines (more than the largest frame: as a length they
//! end any decoder that is stuck in one) and a new nonce. The agent keeps the last [`LOOKBACK_BYTES`] bytes it read and
//! looks there first, since HTTP/2 may have swallowed the nonce.

/// The port on which the controller is HTTP/2's client and the agent its server.
pub const AGENT_PORT: &str = "anteroom.agent";
/// The port on which the agent is HTTP/2's client and the controller its server.
pub const CONTROLLER_PORT: &str = "anteroom.controller";

/// Bytes of a nonce before it is written as hex.
pub const NONCE_BYTES: usize = 16;
/// How long the host waits for an echo before it pads and tries again, milliseconds.
pub const ECHO_MS_MAX: u64 = 100;
/// Newlines sent to end a stuck decoder; more than [`FRAME_BYTES_MAX`].
pub const PAD_BYTES: usize = 70_000;

/// HTTP/2 flow control: one stream's window.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// HTTP/2 flow control: the connection's window.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// HTTP/2's largest frame.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// HTTP/2's send buffer for one stream.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams at once: one less than fill the connection's window, so that unread ones cannot stop the rest.
pub const STREAMS_MAX: u32 = CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES - 1;

/// `\nN <hex>\n`: the host's nonce.
pub fn nonce_line(hex: &str) -> String {
    format!("\nN {hex}\n")
}

/// `\nE <hex>\n`: the agent's echo.
pub fn echo_line(hex: &str) -> String {
    format!("\nE {hex}\n")
}

/// `\nG <hex>\n`: the host's go.
pub fn go_line(hex: &str) -> String {
    format!("\nG {hex}\n")
}
