//! A command-line tool that does what a script says: `anteroom-testbed tool SCRIPT.json`.
//!
//! It is a real program in a real terminal, so what it prints, opens, asks and writes reaches the agent the way a
//! provider's tool does. The script is a file, so that no secret of a test stands in an argument list.

mod run;

pub use run::run;

use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// What the tool does, in order; it exits with 0 after the last step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One thing the tool does. Paths are below `HOME` unless absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", deny_unknown_fields)]
pub enum Step {
    /// Prints a text as it is (no newline is added).
    Print {
        /// The text.
        text: String,
    },
    /// Runs `$BROWSER URL` and goes on whatever it answers.
    Browser {
        /// The address.
        url: String,
    },
    /// Reads one line; `{line}` in later texts stands for it.
    Read,
    /// Asks the terminal where the cursor is (`ESC [ 6 n`) and waits for the answer; exit 7 without one.
    AskCursor {
        /// How long to wait, milliseconds.
        ms_max: u64,
    },
    /// Exits with 8 unless standard input and output are a terminal.
    NeedTerminal,
    /// Waits until a file exists; exit 9 when it does not come.
    WaitFor {
        /// The file, usually one the test makes.
        path: PathBuf,
        /// How long, milliseconds.
        ms_max: u64,
    },
    /// Does nothing for a while.
    Pause {
        /// Milliseconds.
        ms: u64,
    },
    /// Writes a file, mode 0600, with its directories.
    Write {
        /// The file.
        path: PathBuf,
        /// All of it.
        content: String,
        /// In which way.
        how: Way,
    },
    /// Removes a file.
    Remove {
        /// The file.
        path: PathBuf,
    },
    /// Asks the proxy of the environment for a connection; prints `CONNECT authority: status line`.
    Connect {
        /// `host:port`.
        authority: String,
    },
    /// Gets an address through the proxy of the environment; prints `GET url: status`.
    Get {
        /// `http://…`
        url: String,
    },
    /// The status command of a tool: prints `says` and goes on when the file exists, else exits with 1.
    ExpectFile {
        /// The file.
        path: PathBuf,
        /// What to print.
        says: String,
    },
    /// Ends.
    Exit {
        /// With this code.
        code: u8,
    },
}

/// The ways in which tools write their credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Truncates and writes at once.
    Whole,
    /// Truncates, writes half, waits, writes the rest.
    Halves {
        /// Between the halves, milliseconds.
        wait_ms: u64,
    },
    /// Writes a file beside it and renames that.
    Rename,
}

impl Script {
    /// A script of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Writes the script to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }

    /// Reads a script.
    ///
    /// # Errors
    /// No such file, or not a script.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

impl Step {
    /// A line of output.
    pub fn say(text: &str) -> Self {
        Self::Print { text: format!("{text}\n") }
    }

    /// Writes a file by rename, as most tools do.
    pub fn write(path: &str, content: impl Into<String>) -> Self {
        Self::Write { path: path.into(), content: content.into(), how: Way::Rename }
    }
}
