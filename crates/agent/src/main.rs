//! The guest's PID 1, and everything else that Anteroom runs inside a machine: one static binary.
//!
//! ```text
//!   /init (PID 1) ──▶ boot: mounts, modules, overlay, switch_root ─┐
//!   --config FILE ──▶ an ordinary process, for tests ──────────────┴▶ agent: ports · HTTP/2 · supervisor · claim ·
//!                                                                      terminal · browser · proxy · credential watch
//!   pane          ──▶ the process inside the terminal: waits for the claim, then runs the tool on its own tty
//!   browser URL   ──▶ the BROWSER shim: hands the address to the agent
//! ```
//!
//! The two modes differ only at the edges ([`place::Place`]); everything above them is the same code.

mod agent;
mod backoff;
mod board;
mod boot;
mod browser;
mod callback;
mod capture;
mod children;
mod claim;
mod config;
mod credential;
mod devtools;
mod display;
mod ends;
mod events;
mod host;
mod log;
mod memory;
mod pane;
mod paste;
mod place;
mod port;
mod proxy;
mod resync;
mod rfb;
mod screen;
mod serve;
mod settings_file;
mod shim;
mod spare;
mod stages;
mod supervisor;
mod terminal;
mod tmux;
mod tool;
mod tunnels;
mod use_credential;
mod watched;

// What screens mean is known to whoever tries rules without a machine too.
use anteroom_screen::{finder, prompts};
use std::{ffi::OsString, path::Path, process::ExitCode};

/// Names under which a program may call the agent to have an address opened.
const BROWSER_NAMES: [&str; 5] = ["browser", "xdg-open", "sensible-browser", "www-browser", "x-www-browser"];

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called_as = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let name = Path::new(&called_as).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if BROWSER_NAMES.contains(&name) {
        return shim::hand_over(&rest);
    }
    match rest.first().and_then(|arg| arg.to_str()) {
        Some("browser") => shim::hand_over(&rest[1..]),
        Some("pane") => pane::run(),
        Some("--config") if rest.len() == 2 => outcome(run_process(Path::new(&rest[1]))),
        None if rustix::process::getpid().is_init() => boot::run(),
        Some(_) | None => {
            log::line(
                "usage: anteroom-agent --config FILE | pane | browser URL (without arguments only as a machine's /init)",
            );
            ExitCode::from(2)
        }
    }
}

fn outcome(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Process mode: an ordinary program that lives until SIGTERM or SIGINT and takes its children with it.
fn run_process(config: &Path) -> anyhow::Result<()> {
    let config = config::Config::read(config)?;
    reactor()?.block_on(agent::run_as_process(config))
}

/// One thread: a child's `PR_SET_PDEATHSIG` follows the *thread* that forked it, so all are forked by the main one.
pub(crate) fn reactor() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()
}
