//! A machine's two byte channels, from the controller's side.
//!
//! ```text
//!  agent.sock ── resync ── GuardedStream ── HTTP/2 client ─▶ AgentClient
//!  controller.sock  ── resync ── GuardedStream ── HTTP/2 server ─▶ ControllerService
//! ```
//!
//! Everything above the resync is independent of the transport (virtio-serial or the socket of a plain process).

mod agent;
mod controller_server;
mod frames;
mod guarded_stream;
pub(crate) mod resync;

pub use agent::{AgentClient, AgentError, ByteStream, CallLimits};
pub use controller_server::{BROKEN_STREAMS_MAX, RESET_STREAMS_MAX};
pub(crate) use controller_server::{KeepAlive, serve};
pub(crate) use guarded_stream::{ChannelViolation, FirstViolation, GuardedStream, MachineRole};
pub use guarded_stream::{FRAMES_BURST, FRAMES_PER_S};
pub use resync::BYTES_BEFORE_ECHO_MAX;
pub(crate) use resync::{ResyncError, resync};

use anteroom_wire::MachineId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use std::sync::Arc;

/// Any error of a body's source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response to an agent.
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;
/// Handles the requests of agents on their controller channels (HTTP/2; for `CONNECT`, `hyper::upgrade::on` gives the raw stream).
pub type ControllerService = Arc<
    dyn Fn(MachineId, hyper::Request<hyper::body::Incoming>) -> BoxFuture<'static, hyper::Response<BoxBody>>
        + Send
        + Sync,
>;
