//! Errors of an operation.

use crate::{
    operation::Operation,
    version::{NEWEST_SUPPORTED, OLDEST_SUPPORTED, Version, VersionParseError},
};
use std::{io, path::PathBuf};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process accepts connections at the path.
    #[error("the API socket {path:?} does not accept a connection")]
    Connect {
        /// The path of the socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The socket failed.
    #[error("{operation}: the API socket failed")]
    Socket {
        /// The operation.
        operation: Operation,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// Firecracker closed the connection before it answered. Usually it has exited: its exit status and its log have the cause.
    #[error("{operation}: Firecracker closed the API socket without an answer")]
    Closed {
        /// The operation.
        operation: Operation,
    },
    /// No answer in time.
    #[error("{operation}: Firecracker did not answer within {timeout_ms} ms")]
    Timeout {
        /// The operation.
        operation: Operation,
        /// The time limit, milliseconds.
        timeout_ms: u64,
    },
    /// The answer is not HTTP.
    #[error("{operation}: the answer is not valid HTTP")]
    NotHttp {
        /// The operation.
        operation: Operation,
        /// What is wrong with it.
        #[source]
        source: httparse::Error,
    },
    /// The answer is longer than any answer of Firecracker.
    #[error("{operation}: the answer is longer than {bytes_max} bytes")]
    TooLong {
        /// The operation.
        operation: Operation,
        /// The limit.
        bytes_max: usize,
    },
    /// Firecracker sent an answer to no request.
    #[error("Firecracker sent an answer although no request is pending")]
    Unrequested,
    /// The answer's body is not the JSON that the operation returns.
    #[error("{operation}: the answer is not the expected JSON: {body:?}")]
    NotJson {
        /// The operation.
        operation: Operation,
        /// The beginning of the body.
        body: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The request cannot be written as JSON.
    #[error("{operation}: the request cannot be written as JSON")]
    NotSerialized {
        /// The operation.
        operation: Operation,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Firecracker rejected the request. The connection can still be used, except after `PUT /snapshot/load`: Firecracker exits.
    #[error("{operation}: Firecracker answered with status {status}: {fault_message}")]
    Fault {
        /// The operation.
        operation: Operation,
        /// The HTTP status.
        status: u16,
        /// Firecracker's `fault_message`.
        fault_message: String,
    },
    /// The reported version cannot be parsed.
    #[error("Firecracker reported an invalid version")]
    InvalidVersion(#[from] VersionParseError),
    /// The version is not supported any more.
    #[error("Firecracker {0} is too old: install a version from {OLDEST_SUPPORTED} to {NEWEST_SUPPORTED}")]
    TooOld(Version),
    /// The version is not supported yet.
    #[error("Firecracker {0} is too new: install a version from {OLDEST_SUPPORTED} to {NEWEST_SUPPORTED}")]
    TooNew(Version),
    /// The version has not been read yet: the first request of a connection is `GET /version`. The request was not sent.
    #[error("{operation}: Firecracker has not reported its version yet")]
    VersionUnknown {
        /// The operation.
        operation: Operation,
    },
    /// The version does not have this feature. The request was not sent.
    #[error("{feature} needs Firecracker {needed} or later; this is {found}")]
    NotInVersion {
        /// The operation or the field.
        feature: &'static str,
        /// The first version with it.
        needed: Version,
        /// The version in use.
        found: Version,
    },
}
