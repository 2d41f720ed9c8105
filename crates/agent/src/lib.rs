//! The agent: the guest's PID 1, and every other program of Anteroom inside a machine, as one static binary.
//!
//! ```text
//!   /init (PID 1) ──▶ boot: mounts, modules, overlay, switch_root ─┐
//!   --config FILE ──▶ an ordinary process, for tests ──────────────┴▶ run: channels · supervised programs · claim · terminal ·
//!                                                                     browser · proxy · capture of the credential
//!   pane          ──▶ the process inside the terminal: waits for the claim, then runs the tool on its terminal
//!   browser URL   ──▶ the URL opener (`BROWSER`): forwards the URL to the agent
//! ```
//!
//! Machine and process differ only in their paths and users ([`platform::environment`]) and their channels
//! ([`channel::transport`]); all other code is the same.

mod agent;
mod api_error;
mod boot;
mod capture;
mod channel;
mod desktop;
mod exec;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod log;
mod platform;
mod run;
mod sign_in;
mod terminal;
mod use_credential;

use platform::{process::new_async_runtime, process_mode_config::ProcessModeConfig};
use sign_in::url_opener;
use std::{ffi::OsString, path::Path, process::ExitCode};

/// Names under which programs call the agent to open a URL.
const BROWSER_NAMES: [&str; 5] = ["browser", "xdg-open", "sensible-browser", "www-browser", "x-www-browser"];

/// Runs the program that the arguments name.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called_as = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let name = Path::new(&called_as).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if BROWSER_NAMES.contains(&name) {
        return url_opener::forward_url_to_agent(&rest);
    }
    match rest.first().and_then(|arg| arg.to_str()) {
        Some("browser") => url_opener::forward_url_to_agent(&rest[1..]),
        Some("pane") => terminal::pane::runner::run_pane(),
        Some("--config") if rest.len() == 2 => exit_code(run_process(Path::new(&rest[1]))),
        None if rustix::process::getpid().is_init() => boot::run_as_init(),
        Some(_) | None => {
            log::write_line(
                "usage: anteroom-agent --config FILE | pane | browser URL (without arguments only as a machine's /init)",
            );
            ExitCode::from(2)
        }
    }
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::write_line(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Process mode: an ordinary program that runs until SIGTERM or SIGINT, and whose children die with it.
fn run_process(config: &Path) -> anyhow::Result<()> {
    let config = ProcessModeConfig::read(config)?;
    new_async_runtime()?.block_on(run::run_as_process(config))
}
