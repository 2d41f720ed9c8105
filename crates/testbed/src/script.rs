//! A command-line tool that follows a script: `anteroom-testbed tool SCRIPT.json`.
//!
//! It is a real program in a real terminal, so the agent observes it as it observes a provider's tool. The script is a file, so that
//! no secret of a test is in an argument list.

mod run;

pub use run::run_script;

use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The steps of the tool, in order. It exits with 0 after the last step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step. Paths are relative to `HOME` unless absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", deny_unknown_fields)]
pub enum Step {
    /// Prints a text without adding a newline.
    Print {
        /// The text.
        text: String,
    },
    /// Runs `$BROWSER URL` and continues whether it succeeds or not.
    OpenUrlWithBrowser {
        /// The URL.
        url: String,
    },
    /// Reads one line, which replaces `{line}` in later texts.
    ReadLine,
    /// Requests the cursor position from the terminal (`ESC [ 6 n`) and waits for the response; exits with 7 without one.
    QueryCursor {
        /// The longest wait, milliseconds.
        ms_max: u64,
    },
    /// Exits with 8 unless standard input and output are a terminal.
    RequireTerminal,
    /// Waits until a file exists; exits with 9 if it does not exist in time.
    WaitForFile {
        /// The file, usually created by the test.
        path: PathBuf,
        /// The longest wait, milliseconds.
        ms_max: u64,
    },
    /// Waits.
    Pause {
        /// Milliseconds.
        ms: u64,
    },
    /// Writes a file with mode 0600, and creates its directories.
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Its whole content.
        content: String,
        /// How it is written.
        mode: WriteMode,
    },
    /// Removes a file.
    RemoveFile {
        /// The file.
        path: PathBuf,
    },
    /// Requests a connection from the proxy in `HTTPS_PROXY`; prints `CONNECT authority: status line`.
    ProxyConnect {
        /// `host:port`.
        authority: String,
    },
    /// Requests connections one after the other until the file exists; prints `CONNECTED authority: opened of requested`, and the first other
    /// answer.
    ProxyConnectUntil {
        /// `host:port`.
        authority: String,
        /// The file, created by the test.
        path: PathBuf,
    },
    /// Requests `/` over TLS through the proxy in `HTTPS_PROXY`, and trusts what the environment says; prints `TLS authority: status line`.
    /// Exits with 1 and the error if there is no connection.
    TlsGet {
        /// `host:port`.
        authority: String,
    },
    /// Requests a URL through the proxy of the environment and reads the answer; prints `GET url: status`.
    HttpGet {
        /// `http://…`
        url: String,
    },
    /// Requests a URL path over a Unix socket; prints `GET path: status code`, with the problem's code.
    HttpGetOverSocket {
        /// The socket.
        socket: PathBuf,
        /// The path, `/…`.
        path: String,
    },
    /// The status command of a tool: prints `output` and continues if the file exists, else exits with 1.
    ExpectFile {
        /// The file.
        path: PathBuf,
        /// The text to print.
        output: String,
    },
    /// Exits.
    Exit {
        /// The exit code.
        code: u8,
    },
}

/// How a tool writes a credential file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Truncates the file and writes it at once.
    Truncate,
    /// Truncates the file, writes half of it, waits, writes the rest.
    InHalves {
        /// The wait between the halves, milliseconds.
        wait_ms: u64,
    },
    /// Writes a temporary file next to it and renames that.
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
    /// There is no such file, or it is no script.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

impl Step {
    /// Prints a line.
    pub fn print_line(text: &str) -> Self {
        Self::Print { text: format!("{text}\n") }
    }

    /// Writes a file by renaming a temporary one, as most tools do.
    pub fn write(path: &str, content: impl Into<String>) -> Self {
        Self::WriteFile { path: path.into(), content: content.into(), mode: WriteMode::Rename }
    }
}
