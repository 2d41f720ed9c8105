//! What the timeline says of a machine's end: how, as soon as that is known, and what was found gone, as soon as that is.
//!
//! ```text
//!  dead ─▶ machine_exited {why}                 gone ─▶ machine_removed {receipt}
//!  of a machine that was to end, in one: gone ─▶ machine_exited {why, receipt}
//! ```

use super::Driver;
use crate::{api_error::chain, app::App};
use anteroom_machine::{ExitReason, Receipt, State};
use anteroom_store::{StoreError, TimelineRow};
use anteroom_wire::{MachineId, SessionId};
use serde_json::{Value, json};

/// The kind of the entry that says how a machine ended.
pub(in crate::session) const MACHINE_EXITED: &str = "machine_exited";
/// The kind of the entry that says what was found gone of a machine whose end was told before.
const MACHINE_REMOVED: &str = "machine_removed";
/// Entries read at once.
const PAGE: u32 = 500;

/// Sentence and data of [`GONE`].
pub(in crate::session) fn exit_entry(
    machine: &MachineId,
    why: &ExitReason,
    receipt: Option<&Receipt>,
) -> (String, Value) {
    let mut sentence = format!("{why}.");
    if let Some(first) = sentence.get(..1).map(str::to_uppercase) {
        sentence.replace_range(..1, &first);
    }
    let mut data = json!({ "machine": machine, "why": why });
    if let (Some(receipt), Some(data)) = (receipt, data.as_object_mut()) {
        data.insert("receipt".into(), json!(receipt));
    }
    (sentence, data)
}

/// Whether the session's timeline says how this machine ended.
///
/// # Errors
/// The database cannot be read.
pub(in crate::session) async fn is_recorded(
    app: &App,
    session: &SessionId,
    machine: &MachineId,
) -> Result<bool, StoreError> {
    let mut after = 0;
    loop {
        let page = app.store.timeline(session, after, PAGE).await?;
        if page.iter().any(|entry| records_exit_of(entry, machine)) {
            return Ok(true);
        }
        match page.last() {
            Some(last) => after = last.number,
            None => return Ok(false),
        }
    }
}

fn records_exit_of(entry: &TimelineRow, machine: &MachineId) -> bool {
    entry.kind == MACHINE_EXITED && entry.data.get("machine").and_then(Value::as_str) == Some(machine.as_str())
}

impl Driver {
    /// How the machine ended and, `with_receipt`, what its keeper found gone.
    pub(super) async fn record_machine_exit(&mut self, with_receipt: bool) {
        let Some((machine, state)) = self.machine_exit.clone() else { return };
        let (why, receipt) = match state {
            State::Exited { why } => (why, None),
            State::Removed { why, receipt } => (why, receipt),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. } => return,
        };
        // The server before this one may have lived long enough to say it.
        if std::mem::take(&mut self.from_earlier_server) {
            match is_recorded(&self.app, &self.session.id, &machine).await {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => {
                    tracing::warn!(outcome = "timeline_not_read", session = %self.session.id, error = %chain(&error), "whether a machine's end was told before is not known; it is told");
                }
            }
        }
        let receipt = receipt.filter(|_| with_receipt);
        let (sentence, data) = exit_entry(&machine, &why, receipt.as_deref());
        self.append(MACHINE_EXITED, sentence, data).await;
    }

    /// What its keeper found gone.
    pub(super) async fn record_removal(&mut self) {
        let Some((machine, State::Removed { receipt, .. })) = self.machine_exit.take() else { return };
        let left = receipt.as_ref().map(|receipt| receipt.checks.leftovers.join(", ")).unwrap_or_default();
        let sentence = match (&receipt, left.as_str()) {
            (None, _) => "The machine's keeper has ended.".to_owned(),
            (Some(_), "") => "Nothing of the machine is left.".to_owned(),
            (Some(_), left) => format!("Of the machine this is left: {left}."),
        };
        self.append(MACHINE_REMOVED, sentence, json!({ "machine": machine, "receipt": receipt })).await;
    }

    pub(super) async fn record_cleanup_timeout(&mut self) {
        let Some(running) = &self.running else { return };
        let what = match &*running.state.borrow() {
            State::Exited { .. } => "has died, and its keeper",
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }
            | State::Removed { .. } => "was told to stop and",
        };
        let (machine, within) = (running.machine.clone(), self.app.config.sessions.cleanup_timeout_s);
        let sentence = format!("The machine {what} was not seen gone within {within} s.");
        self.append("machine_not_removed", sentence, json!({ "machine": machine })).await;
    }
}
