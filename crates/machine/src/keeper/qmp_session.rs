//! What the keeper says to QEMU, and what it takes from QEMU's events: why the guest ended or cannot go on, whether a save
//! succeeded.

use crate::qmp::{Client, Message, QmpError};
use serde_json::{Value, json};
use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
};

/// What the guest did last, as far as QEMU tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestEvent {
    PowerOff,
    Reset,
    Panic,
}

/// What came of a conversation's last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VmEvent {
    /// The guest runs (again).
    Resumed,
    /// The guest ended itself.
    Guest(GuestEvent),
    /// The state is in the file.
    Saved,
    /// A command failed.
    Failed(String),
    /// QEMU has stopped the guest and cannot let it go on; its word for that.
    Broken(String),
}

/// The run states in which QEMU waits for somebody to help a guest that it could not run on: an instruction that KVM could
/// not carry out, a disk that could not be read. The others are passing ones, or our own doing.
const BROKEN: [&str; 2] = ["internal-error", "io-error"];
const ASK_STATUS: &str = "query-status";

/// The QMP conversation of one machine.
pub(crate) struct QmpSession {
    client: Client,
}

impl AsFd for QmpSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl QmpSession {
    pub(crate) fn new(stream: UnixStream) -> Result<Self, QmpError> {
        Ok(Self { client: Client::new(stream)? })
    }

    /// Has the state loaded from the process's open file `number`, all but the RAM (which it maps). A guest that was
    /// saved while it ran then runs.
    pub(crate) fn load(&mut self, number: i32) -> Result<(), QmpError> {
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        self.client.command("migrate-set-capabilities", capabilities, None)?;
        self.client.command("migrate-incoming", json!({ "uri": format!("fd:{number}") }), None)
    }

    /// Begins to save everything but the RAM (which is in a shared file) into the new file `state`. The guest is stopped
    /// by the save's end, not before: a state saved while running needs no command to run again.
    pub(crate) fn save(&mut self, state: &Path) -> io::Result<()> {
        let file: OwnedFd = OpenOptions::new().write(true).create_new(true).mode(0o600).open(state)?.into();
        let on = |name: &str| json!({ "capability": name, "state": true });
        let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
        self.client
            .command("migrate-set-capabilities", capabilities, None)
            .and_then(|()| self.client.command("getfd", json!({ "fdname": "state" }), Some(&file)))
            .and_then(|()| self.client.command("migrate", json!({ "uri": "fd:state" }), None))
            .map_err(io::Error::other)
    }

    /// Whether QEMU has hung up.
    pub(crate) fn is_over(&self) -> bool {
        self.client.is_closed()
    }

    /// Reads what QEMU said. Call when the socket is readable.
    pub(crate) fn read(&mut self) -> Result<Vec<VmEvent>, QmpError> {
        let messages = self.client.read()?;
        // Why it stopped is not in the event.
        if messages.iter().any(|message| matches!(message, Message::Event { name, .. } if name == "STOP")) {
            match self.client.command(ASK_STATUS, Value::Null, None) {
                // A process that has ended since says more by its exit status.
                Ok(()) | Err(QmpError::Socket(_)) => {}
                Err(error @ (QmpError::NotJson { .. } | QmpError::TooLong)) => return Err(error),
            }
        }
        Ok(messages.into_iter().filter_map(news).collect())
    }
}

fn news(message: Message) -> Option<VmEvent> {
    match message {
        Message::Return { command: ASK_STATUS, value } => {
            let status = value.get("status").and_then(Value::as_str).unwrap_or_default();
            BROKEN.contains(&status).then(|| VmEvent::Broken(status.to_owned()))
        }
        Message::Greeting | Message::Return { .. } => None,
        // Nothing depends on it.
        Message::Error { command: ASK_STATUS, .. } => None,
        Message::Error { command, text } => Some(VmEvent::Failed(format!("{command}: {text}"))),
        Message::Event { name, data } => {
            let says = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
            match (name.as_str(), says("reason"), says("status")) {
                ("RESUME", _, _) => Some(VmEvent::Resumed),
                ("GUEST_PANICKED", _, _) | ("SHUTDOWN", "guest-panic", _) => Some(VmEvent::Guest(GuestEvent::Panic)),
                ("SHUTDOWN", "guest-reset", _) => Some(VmEvent::Guest(GuestEvent::Reset)),
                ("SHUTDOWN", "guest-shutdown", _) => Some(VmEvent::Guest(GuestEvent::PowerOff)),
                ("MIGRATION", _, "completed") => Some(VmEvent::Saved),
                ("MIGRATION", _, "failed") => Some(VmEvent::Failed("the migration failed".into())),
                _ => None,
            }
        }
    }
}
