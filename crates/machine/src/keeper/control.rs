//! The control protocol between keeper and controller: one JSON object per line on the control socket.
//!
//! ```text
//!  keeper ── {"report":"greeting", …phase}     ─▶ controller      to every client that connects
//!  keeper ── {"report":"phase", …}             ─▶ controller      at every change
//!  keeper ── {"phase":"cleaning_up","cause":…} ─▶ controller      the process has exited; cleanup has not started
//!  keeper ◀─ {"command":"stop","reason":"…",…} ── controller      the optional "stop_detail" is the full reason
//!  keeper ── closes                            ─▶ controller      the machine is removed
//! ```
//!
//! Lines that the controller cannot parse are ignored. If a keeper does not report `cleaning_up`, the controller learns of the
//! exit when the socket closes.

use crate::{
    procfs::ProcessId,
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

/// The version of the protocol. All versions from 2 on accept `stop`.
pub(crate) const CONTROL_PROTOCOL: u32 = 2;
/// The longest line that either side reads, bytes.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// A line from the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub(crate) enum Report {
    /// Identity and current phase.
    Greeting { protocol: u32, machine: MachineId, keeper: ProcessId, phase: KeeperPhase },
    /// A change of the phase.
    Phase { phase: KeeperPhase },
}

/// The phase of the machine's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub(crate) enum KeeperPhase {
    /// Not yet started.
    Starting,
    /// Running.
    Running { process: ProcessId },
    /// The process has exited and was waited for; the keeper is cleaning up. The receipt will contain the same `cause`.
    CleaningUp {
        cause: ExitCause,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
    },
    /// Cleanup is done.
    Ended {
        cause: ExitCause,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
        /// Why the receipt could not be written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt_error: Option<String>,
    },
}

/// A line from the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub(crate) enum KeeperCommand {
    /// Stop the machine now.
    Stop {
        /// The reason's name.
        reason: String,
        /// The full reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_detail: Option<StopDetail>,
    },
    /// Save the machine's state without its RAM into a new file, then stop it (QEMU only).
    Save { state: PathBuf },
}

/// One connection on the control socket, on the keeper's side.
pub(crate) struct ControlConnection {
    stream: UnixStream,
    input: Vec<u8>,
}

impl AsFd for ControlConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl ControlConnection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new() })
    }

    /// Sends a report. A full socket buffer is an error, so a client that does not read is dropped.
    pub(crate) fn send(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Reads the complete commands that have arrived. On any error (closed, invalid JSON, line too long) the caller drops the
    /// client.
    pub(crate) fn read_commands(&mut self) -> io::Result<Vec<KeeperCommand>> {
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
