//! The world of the tests: everything around the server that is real enough to lie to it, and nothing scripted.
//!
//! ```text
//!  test ──▶ World ── HTTP, WebSocket ──▶ server (a process: the controller with plain machines)
//!             │                            └─ keeper ─ machine: the agent in process mode, a fake desktop, a scripted tool
//!             ├─ CodexIssuer, ClaudeIssuer, GoogleIssuer, DemoIdp: identity providers, reached through the egress gate's answers
//!             └─ Leaks: on drop nothing may be left over: no process, no socket, no run directory
//! ```
//!
//! Fakes have memory and behave; they are not lists of expected calls.

pub mod adoption;
pub mod claude_issuer;
mod code_flow;
pub mod codex_issuer;
pub mod endurance;
pub mod fake_rfb;
pub mod figures;
pub mod google_issuer;
pub mod healing;
mod holds;
pub mod house;
mod issuer;
pub mod leaks;
pub mod living;
pub mod native_cli;
pub mod plain_process;
pub mod processes;
pub mod script;
pub mod served;
pub mod test_ca;
mod tool;
mod world;

pub use claude_issuer::ClaudeIssuer;
pub use code_flow::Consent;
pub use codex_issuer::CodexIssuer;
pub use fake_rfb::FakeRfb;
pub use figures::Spread;
pub use google_issuer::GoogleIssuer;
pub use holds::Hold;
pub use house::House;
pub use issuer::Issuer;
pub use leaks::Leaks;
pub use living::LivingMachine;
pub use native_cli::NativeCli;
pub use plain_process::PlainProcess;
pub use script::{Script, Step};
pub use test_ca::TestCa;
pub use tool::Tool;
pub use world::{Answer, Api, Plan, SOON, ServerProcess, World};
