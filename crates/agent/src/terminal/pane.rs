//! The process inside the terminal. It is there before the claim, shows that it prepares, then runs the tool on its own tty as the
//! agent orders.
//!
//! ```text
//!  pane ── "pane" ──▶ agent          (before the claim: nothing happens for a long time)
//!  pane ◀── wait{text} ── agent      (the tool wants a key first)
//!  pane ◀── start{argv, env, dir} ── agent, with a descriptor for its standard input where it wants a key
//!  pane ── started{pid} ──▶ … ── exited{code} ──▶ ◀── say{text, enter} ──   then Enter: ── again ──▶
//!  pane ◀── end ── agent             (another method: the tool's process group is ended, and the pane with it)
//! ```

mod attend;
mod inside;
mod link;
mod tty;

pub(crate) use attend::attend;
pub(crate) use inside::run;

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// How long a tool may take to end after SIGHUP, milliseconds.
const END_HANGUP_MS_MAX: u64 = 1_000;
/// And after SIGTERM, before it is killed.
const END_TERMINATE_MS_MAX: u64 = 2_000;

/// What the pane shall run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToPane {
    /// Run this. `input`: the descriptor that comes along is its standard input; else the terminal is.
    Start { start: Start, input: bool },
    /// Show this line alone.
    Wait { text: String },
    /// Add this line; `enter`: and tell when the person presses Enter.
    Say { text: String, enter: bool },
    /// End what runs, and go.
    End,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromPane {
    Started {
        pid: u32,
    },
    NotStarted {
        error: String,
    },
    Exited {
        code: i32,
    },
    /// The person pressed Enter.
    Again,
}
