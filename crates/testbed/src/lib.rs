//! The world of the tests: everything around the server that is real enough to lie to it, and nothing scripted.
//!
//! ```text
//!  test ──▶ TestServer ── HTTP, WebSocket ──▶ server (a process: the controller with plain machines)
//!             │                            └─ keeper ─ machine: the agent in process mode, a fake desktop, a scripted tool
//!             ├─ CodexIssuer, ClaudeIssuer, GoogleIssuer, DemoIdp: identity providers, reached through the egress gate's answers
//!             └─ Leaks: on drop nothing may be left over: no process, no socket, no run directory
//! ```
//!
//! Fakes have memory and behave; they are not lists of expected calls.

pub mod measure_adoption;
pub mod claude_issuer;
mod code_flow;
pub mod codex_issuer;
pub mod endurance;
pub mod fake_rfb_server;
pub mod stats;
pub mod google_issuer;
pub mod measure_recovery;
mod pause_points;
pub mod qemu_server;
mod issuer;
pub mod leaks;
pub mod machine_processes;
pub mod native_cli;
pub mod plain_process;
pub mod processes;
pub mod script;
pub mod serve;
pub mod test_ca;
mod scripted_tool;
mod test_server;

pub use claude_issuer::ClaudeIssuer;
pub use code_flow::Consent;
pub use codex_issuer::CodexIssuer;
pub use fake_rfb_server::FakeRfbServer;
pub use stats::DurationStats;
pub use google_issuer::GoogleIssuer;
pub use pause_points::PausePoint;
pub use qemu_server::QemuServer;
pub use issuer::Issuer;
pub use leaks::Leaks;
pub use machine_processes::MachineProcesses;
pub use native_cli::NativeCli;
pub use plain_process::PlainProcess;
pub use script::{Script, Step};
pub use test_ca::TestCa;
pub use scripted_tool::ScriptedTool;
pub use test_server::{ApiResponse, ApiClient, TestConfig, WAIT_MAX, ServerProcess, TestServer};
