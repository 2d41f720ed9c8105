//! The process inside the terminal. It starts before the claim, shows that the machine is being prepared, then runs the tool on its
//! terminal as the agent commands.
//!
//! ```text
//!  pane ── "pane" ──▶ agent              (before the claim: nothing happens for a long time)
//!  pane ◀── show_message{text} ── agent  (the tool needs a key first)
//!  pane ◀── start{tool, stdin} ── agent, with a file descriptor for its standard input if it needs a key
//!  pane ── started{pid} ──▶ … ── exited{code} ──▶ ◀── append_message{text, offer_restart} ──   then Enter: ── restart_requested ──▶
//!  pane ◀── stop ── agent                (another method: the tool's process group is stopped, and the pane with it)
//! ```

pub(crate) mod controller;
mod ipc;
pub(crate) mod runner;
mod tty;

use crate::sign_in::tool::ToolCommand;
use serde::{Deserialize, Serialize};

/// How long a tool may take to end after SIGHUP, milliseconds.
pub(crate) const HANGUP_MS_MAX: u64 = 1_000;
/// How long it may take after SIGTERM, before it is killed, milliseconds.
pub(crate) const TERMINATE_MS_MAX: u64 = 2_000;

/// A command of the agent to the pane.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaneCommand {
    /// Run the tool. `stdin`: the file descriptor that is sent along is its standard input; otherwise the terminal is.
    Start { tool: ToolCommand, stdin: bool },
    /// Clear the screen and show this line.
    ShowMessage { text: String },
    /// Add this line. `offer_restart`: report when the user presses Enter.
    AppendMessage { text: String, offer_restart: bool },
    /// Stop the tool, and exit.
    Stop,
}

/// An event of the pane.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaneEvent {
    Started {
        pid: u32,
    },
    StartFailed {
        error: String,
    },
    Exited {
        code: i32,
    },
    /// The user pressed Enter.
    RestartRequested,
}
