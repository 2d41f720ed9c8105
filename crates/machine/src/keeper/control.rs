//! What keeper and controller say to each other: one JSON object a line on the control socket.
//!
//! ```text
//!  keeper ── {"report":"greeting", …phase} ─▶ controller      at once, to everyone who connects
//!  keeper ── {"report":"phase", …}         ─▶ controller      at every change
//!  keeper ── {"phase":"clearing","cause":…} ─▶ controller      the process has ended, and cause; nothing is cleared away yet
//!  keeper ◀─ {"command":"stop","why":"…",…}   ── controller      "stop_detail" says it whole; an older keeper leaves it out
//!  keeper ── closes                         ─▶ controller      the machine is gone
//! ```
//!
//! An older keeper does not say `clearing`, and an older controller leaves out what it does not understand: for both the
//! socket's closing is the first that is heard of an end.

use crate::{
    process::ProcessId,
    receipt::{ExitCause, StopDetail},
};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

/// The version of this module's meaning. `stop` is understood in all versions.
pub(crate) const CONTROL_PROTOCOL: u32 = 1;
/// The longest line either side reads.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The keeper's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub(crate) enum Report {
    /// What it is and cause far.
    Greeting { protocol: u32, machine: MachineId, keeper: ProcessId, phase: KeeperPhase },
    /// A change.
    Phase { phase: KeeperPhase },
}

/// How far the machine's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub(crate) enum KeeperPhase {
    /// Not yet started.
    Starting,
    /// Running.
    Running { process: ProcessId },
    /// The process has ended and was waited for; what is left of the machine is being cleared away. `cause` is what the
    /// receipt will say.
    CleaningUp {
        cause: ExitCause,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
    },
    /// Over, and cleared away.
    Ended {
        cause: ExitCause,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
        /// Why there is no receipt of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt_error: Option<String>,
    },
}

/// The controller's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub(crate) enum KeeperCommand {
    /// End the machine now.
    Stop {
        /// The reason's name.
        why: String,
        /// The reason itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
    },
    /// Save the machine's state without its RAM into a new file, then end it (QEMU only).
    Save { state: PathBuf },
}

/// One client on the control socket, as the keeper sees it.
pub(crate) struct ControlClient {
    stream: UnixStream,
    input: Vec<u8>,
}

impl AsFd for ControlClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl ControlClient {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new() })
    }

    /// Tells the client something; a client that does not read is an error.
    pub(crate) fn send(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Reads the commands there are; an error (also: the client has hung up, or speaks nonsense) keeper_fds the client.
    pub(crate) fn read(&mut self) -> io::Result<Vec<KeeperCommand>> {
        let mut chunk = [0u8; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let mut commands = Vec::new();
        while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            commands.push(serde_json::from_slice(&line)?);
        }
        Ok(commands)
    }
}
