//! A client of Firecracker's API: HTTP/1.1 with JSON bodies over a Unix socket. One method per operation that is used.
//!
//! ```text
//!  Client      one method per operation; blocks until the answer
//!    └─ Connection   sends requests and reads answers without blocking; a process with a poll loop uses it directly
//!         └─ API socket ─▶ Firecracker 1.12 to 1.16
//! ```
//!
//! A connection first sends `GET /version`. An unsupported version is an error, and so is a request that this version does not
//! have: it is not sent. [`jailer`] has the command line of Firecracker's jailer. Names are those of Firecracker's API description, `firecracker.yaml`.

pub mod body;
mod client;
mod connection;
mod error;
pub mod jailer;
mod operation;
mod request;
mod response;
mod version;

pub use client::Client;
pub use connection::Connection;
pub use error::Error;
pub use operation::Operation;
pub use request::Request;
pub use response::Response;
pub use version::{NEWEST_SUPPORTED, OLDEST_SUPPORTED, Version, VersionParseError};
