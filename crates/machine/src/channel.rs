//! A machine's two byte channels, from the controller's side.
//!
//! ```text
//!  agent.sock ── resync ── HTTP/2, we are the client ─▶ AgentClient
//!  host.sock  ── resync ── HTTP/2, we are the server ─▶ HostService
//! ```
//!
//! Whatever carries the bytes (virtio-serial, a plain process's socket), above the resync it is the same.

mod agent;
mod host;
mod resync;

pub use agent::{AgentClient, AgentError, ByteStream, CallLimits};
pub(crate) use host::{KeepAlive, serve};
pub(crate) use resync::{ResyncError, resync};

use anteroom_wire::MachineId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use std::sync::Arc;

/// Whatever error a body's source has.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer to an agent.
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;
/// Answers the requests that machines' agents make on their host channels (HTTP/2; also `CONNECT`, whose raw stream is
/// reached by `hyper::upgrade::on`).
pub type HostService = Arc<
    dyn Fn(MachineId, hyper::Request<hyper::body::Incoming>) -> BoxFuture<'static, hyper::Response<BoxBody>>
        + Send
        + Sync,
>;
