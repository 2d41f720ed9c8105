//! Test fixtures: a server that runs as a separate process, fake identity providers, a fake desktop, and checks for leaks.
//!
//! ```text
//!  test ──▶ TestServer ── HTTP, WebSocket ──▶ server process: the controller with plain-process machines
//!             │                                └─ keeper ─ machine: the agent in process mode, a fake desktop, a scripted tool
//!             ├─ CodexIssuer, ClaudeIssuer, GoogleIssuer, DemoIdp: identity providers, reached by the egress gate's overrides
//!             ├─ OidcIssuer: the OpenID provider at which people sign in to the server
//!             ├─ Lab: several servers with their databases, each in a network namespace of its own
//!             └─ Leaks: when the server is finished, no process, socket or run directory may be left
//! ```
//!
//! Fakes keep state and behave like the real thing; they are not lists of expected calls. `TestServer<Qemu>` runs `anteroom serve`
//! with QEMU machines.

pub mod claude_issuer;
mod code_flow;
pub mod codex_issuer;
pub mod endurance;
mod eventually;
pub mod fake_rfb_server;
mod forward_proxy;
pub mod google_issuer;
mod issuer;
pub mod lab;
pub mod leaks;
pub mod machine_kinds;
pub mod machine_owner;
pub mod machine_processes;
pub mod machine_server;
pub mod measure_adoption;
pub mod measure_recovery;
pub mod native_cli;
pub mod oidc_issuer;
mod pause_points;
pub mod plain_process;
pub mod processes;
pub mod qemu_monitor;
pub mod script;
mod scripted_provider;
pub mod serve;
mod server_dir;
pub mod stats;
pub mod test_ca;
pub mod test_server;
mod with_hosts;

pub use claude_issuer::ClaudeIssuer;
pub use code_flow::ConsentRequirement;
pub use codex_issuer::CodexIssuer;
pub use eventually::eventually;
pub use fake_rfb_server::FakeRfbServer;
pub use forward_proxy::{ForwardProxy, ProxyKind};
pub use google_issuer::GoogleIssuer;
pub use issuer::Issuer;
pub use leaks::LeakScan;
pub use machine_processes::MachineProcesses;
pub use native_cli::NativeCli;
pub use oidc_issuer::OidcIssuer;
pub use pause_points::PausePoint;
pub use script::{Script, Step};
pub use scripted_provider::ScriptedProvider;
pub use server_dir::ServerDir;
pub use stats::DurationStats;
pub use test_ca::TestCa;
pub use test_server::{
    ApiClient, ApiResponse, LaunchCommand, MachineBackend, PlainProcess, QEMU_WAIT_TIMEOUT, Qemu, TestConfig,
    TestServer, Tokens, WAIT_MAX,
};
pub use with_hosts::with_hosts;
