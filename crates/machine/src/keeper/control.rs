//! What keeper and controller say to each other: one JSON object a line on the control socket.
//!
//! ```text
//!  keeper ── {"report":"greeting", …phase} ─▶ controller      at once, to everyone who connects
//!  keeper ── {"report":"phase", …}         ─▶ controller      at every change
//!  keeper ── {"phase":"clearing","how":…} ─▶ controller      the process has ended, and how; nothing is cleared away yet
//!  keeper ◀─ {"order":"stop","why":"…",…}   ── controller      "because" says it whole; an older keeper leaves it out
//!  keeper ── closes                         ─▶ controller      the machine is gone
//! ```
//!
//! An older keeper does not say `clearing`, and an older controller leaves out what it does not understand: for both the
//! socket's closing is the first that is heard of an end.

use crate::{
    process::ProcessId,
    receipt::{Because, End},
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
    /// What it is and how far.
    Greeting { protocol: u32, machine: MachineId, keeper: ProcessId, phase: Phase },
    /// A change.
    Phase { phase: Phase },
}

/// How far the machine's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub(crate) enum Phase {
    /// Not yet started.
    Starting,
    /// Running.
    Running { process: ProcessId },
    /// The process has ended and was waited for; what is left of the machine is being cleared away. `how` is what the
    /// receipt will say.
    Clearing {
        how: End,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<Because>,
    },
    /// Over, and cleared away.
    Ended {
        how: End,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<Because>,
        /// Why there is no receipt of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unwritten: Option<String>,
    },
}

/// The controller's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub(crate) enum Order {
    /// End the machine now.
    Stop {
        /// The reason's name.
        why: String,
        /// The reason itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<Because>,
    },
    /// Save the machine's state without its RAM into a new file, then end it (QEMU only).
    Save { state: PathBuf },
}

/// One caller on the control socket, as the keeper sees it.
pub(crate) struct Caller {
    stream: UnixStream,
    input: Vec<u8>,
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Caller {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new() })
    }

    /// Tells the caller something; a caller that does not read is an error.
    pub(crate) fn tell(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Reads the orders there are; an error (also: the caller has hung up, or speaks nonsense) ends the caller.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Order>> {
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
        let mut orders = Vec::new();
        while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            orders.push(serde_json::from_slice(&line)?);
        }
        Ok(orders)
    }
}
