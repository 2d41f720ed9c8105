//! The use cases: sessions, credentials, providers, webhooks, reconciliation, diagnosis. Without HTTP routes.
//!
//! ```text
//!  server (routes, the agent's events and deliveries) ──▶ session, credentials ──▶ store, vault, machine, egress, tunnel
//!                                                            │        ▲
//!                                                            ▼        └── supervisor: one task for each active session
//!                                                         store ──▶ webhook ──▶ backend
//! ```
//!
//! A use case returns an [`ApiError`](api_error::ApiError) if it fails; the server converts it to a response.

pub mod admission;
pub mod api_error;
pub mod api_tokens;
pub mod audit;
pub mod backup;
pub mod bundle;
pub mod caller;
pub mod cluster;
pub mod cluster_authority;
pub mod cluster_hosts;
pub mod config;
pub mod config_files;
pub mod credentials;
pub mod db_metrics;
pub mod egress;
pub mod erasure;
pub mod external;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod health;
mod https_client;
pub mod image;
pub mod keep_warm;
pub mod keys;
pub mod leaks;
pub mod limits;
pub mod live;
pub mod log;
pub mod names;
pub mod oidc;
pub mod overview;
mod private_file;
pub mod providers;
pub mod public_url_check;
pub mod random;
pub mod retention;
pub mod session;
mod settings;
pub mod start_histograms;
pub mod state_file_system;
pub mod tls;
pub mod unix_time;
pub mod warm_machines;
pub mod webhook;
