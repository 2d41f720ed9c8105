//! The server around the controller's use cases: HTTP routes, authentication, web pages, listeners and assembly.
//!
//! ```text
//!  TCP, Unix socket ──▶ http ─ auth ─▶ a handler: parse ─▶ a use case of the controller ─▶ convert ──▶ response
//!  a machine's channel ──▶ http (the agent's routes, CONNECT) ──▶ controller, egress gate
//! ```
//!
//! [`start`] opens the parts, resumes sessions and returns a [`Server`] that answers requests. An error of a use case becomes a
//! response in `http::error_response`.

pub mod addresses;
pub mod app;
pub mod auth;
mod database;
mod demo;
mod free_memory;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod http;
mod listener;
pub mod peer;
mod peer_server;
mod peers;
mod process_protection;
mod reload;
mod server;
mod service_manager;
mod state_dir;

pub use anteroom_demo::identity_provider::DEMO_HOST;
pub use database::require_database;
pub use peers::{JoinedCluster, join_cluster};
pub use process_protection::protect_process;
pub use server::{MachineEnvironment, Server, create_operator_login_link, start_server};
pub use service_manager::{output_is_kept, report_start};
pub use state_dir::StateDir;
