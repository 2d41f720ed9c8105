//! The two byte channels of a machine: names, the resync that starts each connection, and HTTP/2's windows.
//!
//! A new controller may find half a frame of its predecessor in the pipe. So each connection starts with this handshake:
//!
//! ```text
//!  controller ── \nN <32 hex>\n ──▶ agent    a new nonce; bytes that the controller reads before the echo are discarded
//!  controller ◀── \nE <same>\n ──── agent    the agent echoes every nonce it finds
//!  controller ── \nG <same>\n ──▶   agent    "go": HTTP/2 from here on, both ways
//! ```
//!
//! If there is no echo within [`ECHO_WAIT_MS_MAX`], the controller sends [`PADDING_BYTES`] newlines (more than the largest frame, so that they
//! complete any frame in which a decoder is stuck) and a new nonce. The agent searches everything it reads for a nonce, also in the
//! middle of an HTTP/2 connection.

/// The port on which the controller is HTTP/2's client and the agent its server.
pub const AGENT_SERVER_PORT: &str = "anteroom.agent";
/// The port on which the agent is HTTP/2's client and the controller its server.
pub const CONTROLLER_SERVER_PORT: &str = "anteroom.controller";

/// The capability of an agent that knows `credential.usable_when_done` of a descriptor.
pub const USABLE_WHEN_DONE_CAPABILITY: &str = "usable_when_done";

/// The vsock port with the meaning of [`AGENT_SERVER_PORT`], where the machine's ports are vsock ports.
pub const AGENT_SERVER_VSOCK_PORT: u32 = 1024;
/// The vsock port with the meaning of [`CONTROLLER_SERVER_PORT`]. The guest listens on it too: the VMM opens no socket.
pub const CONTROLLER_SERVER_VSOCK_PORT: u32 = 1025;

/// Bytes of a nonce before it is written as hex.
pub const NONCE_BYTES: usize = 16;
/// How long the controller waits for an echo before it sends padding and a new nonce, milliseconds.
pub const ECHO_WAIT_MS_MAX: u64 = 100;
/// Newlines sent to end a stuck decoder; more than [`FRAME_BYTES_MAX`].
pub const PADDING_BYTES: usize = 70_000;

/// HTTP/2 flow control: one stream's window.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// HTTP/2 flow control: the connection's window.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// HTTP/2's largest frame.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// HTTP/2's largest list of headers of one message.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// HTTP/2's send buffer for one stream.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Concurrent streams: one less than would fill the connection's window, so that unread streams cannot block the others.
pub const STREAMS_MAX: u32 = CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES - 1;

/// `\nN <hex>\n`: the controller's nonce.
pub fn format_nonce_line(hex: &str) -> String {
    format!("\nN {hex}\n")
}

/// `\nE <hex>\n`: the agent's echo.
pub fn format_echo_line(hex: &str) -> String {
    format!("\nE {hex}\n")
}

/// `\nG <hex>\n`: the controller's go.
pub fn format_go_line(hex: &str) -> String {
    format!("\nG {hex}\n")
}
