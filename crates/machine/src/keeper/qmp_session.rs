//! The keeper's QMP session with QEMU: loads and saves the state, and translates QEMU's events.

use super::monitor::{GuestEvent, VmEvent};
use crate::qmp::{QmpClient, QmpError, QmpMessage};
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

/// The run states in which QEMU has paused a guest and waits for an operator: an instruction that KVM could not execute, a disk
/// that could not be read. All other states are temporary or caused by the keeper's commands.
const ERROR_STATES: [&str; 2] = ["internal-error", "io-error"];
/// The command with which a connection begins; [`QmpClient::new`] sends it.
const NEGOTIATE: &str = "qmp_capabilities";
const QUERY_STATUS: &str = "query-status";

/// The QMP session of one machine.
pub(crate) struct QmpSession {
    client: QmpClient,
}

impl AsFd for QmpSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl QmpSession {
    pub(crate) fn new(stream: UnixStream) -> Result<Self, QmpError> {
        Ok(Self { client: QmpClient::new(stream)? })
    }

    /// Loads the state except the RAM (which QEMU maps) from QEMU's file descriptor `number`. A guest that was saved while
    /// running then runs.
    pub(crate) fn load_state(&mut self, number: i32) -> Result<(), QmpError> {
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        self.client.send_command("migrate-set-capabilities", capabilities, None)?;
        self.client.send_command("migrate-incoming", json!({ "uri": format!("fd:{number}") }), None)
    }

    /// Lets a guest run that was started paused.
    pub(crate) fn run(&mut self) -> Result<(), QmpError> {
        self.client.send_command("cont", Value::Null, None)
    }

    /// Starts saving the state except the RAM (which is in a shared file) into the new file `state`. The guest is paused by
    /// the migration's completion, not before: a state saved while running needs no command to run again.
    pub(crate) fn save_state(&mut self, state: &Path) -> io::Result<()> {
        let file: OwnedFd = OpenOptions::new().write(true).create_new(true).mode(0o600).open(state)?.into();
        let on = |name: &str| json!({ "capability": name, "state": true });
        let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
        self.client
            .send_command("migrate-set-capabilities", capabilities, None)
            .and_then(|()| self.client.send_command("getfd", json!({ "fdname": "state" }), Some(&file)))
            .and_then(|()| self.client.send_command("migrate", json!({ "uri": "fd:state" }), None))
            .map_err(io::Error::other)
    }

    /// Whether QEMU has closed the socket.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Reads the events that have arrived. Call when the socket is readable.
    pub(crate) fn read_events(&mut self) -> Result<Vec<VmEvent>, QmpError> {
        let messages = self.client.read_messages()?;
        // The event does not contain the run state.
        if messages.iter().any(|message| matches!(message, QmpMessage::Event { name, .. } if name == "STOP")) {
            match self.client.send_command(QUERY_STATUS, Value::Null, None) {
                // If the process has exited since, its exit status is more precise.
                Ok(()) | Err(QmpError::Socket(_)) => {}
                Err(error @ (QmpError::NotJson { .. } | QmpError::TooLong)) => return Err(error),
            }
        }
        Ok(messages.into_iter().filter_map(vm_event).collect())
    }
}

fn vm_event(message: QmpMessage) -> Option<VmEvent> {
    match message {
        QmpMessage::Return { command: QUERY_STATUS, value } => {
            let status = value.get("status").and_then(Value::as_str).unwrap_or_default();
            ERROR_STATES.contains(&status).then(|| VmEvent::UnrecoverableError(status.to_owned()))
        }
        QmpMessage::Return { command: NEGOTIATE, .. } => Some(VmEvent::Started),
        QmpMessage::Greeting | QmpMessage::Return { .. } => None,
        // A failed query changes nothing.
        QmpMessage::Error { command: QUERY_STATUS, .. } => None,
        QmpMessage::Error { command, text } => Some(VmEvent::Failed(format!("{command}: {text}"))),
        QmpMessage::Event { name, data } => {
            let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
            match (name.as_str(), text("reason"), text("status")) {
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
