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
pub(in crate::session) const GONE: &str = "machine_exited";
/// The kind of the entry that says what was found gone of a machine whose end was told before.
const CLEARED: &str = "machine_removed";
/// Entries read at once.
const PAGE: u32 = 500;

/// Sentence and data of [`GONE`].
pub(in crate::session) fn gone_words(
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
pub(in crate::session) async fn is_told(
    app: &App,
    session: &SessionId,
    machine: &MachineId,
) -> Result<bool, StoreError> {
    let mut after = 0;
    loop {
        let page = app.store.timeline(session, after, PAGE).await?;
        if page.iter().any(|entry| tells_of(entry, machine)) {
            return Ok(true);
        }
        match page.last() {
            Some(last) => after = last.number,
            None => return Ok(false),
        }
    }
}

fn tells_of(entry: &TimelineRow, machine: &MachineId) -> bool {
    entry.kind == GONE && entry.data.get("machine").and_then(Value::as_str) == Some(machine.as_str())
}

impl Driver {
    /// How the machine ended and, `with_receipt`, what its keeper found gone.
    pub(super) async fn note_gone(&mut self, with_receipt: bool) {
        let Some((machine, state)) = self.gone.clone() else { return };
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
        if std::mem::take(&mut self.inherited) {
            match is_told(&self.app, &self.live.id, &machine).await {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => {
                    tracing::warn!(outcome = "timeline_not_read", session = %self.live.id, error = %chain(&error), "whether a machine's end was told before is not known; it is told");
                }
            }
        }
        let receipt = receipt.filter(|_| with_receipt);
        let (sentence, data) = gone_words(&machine, &why, receipt.as_deref());
        self.say(GONE, sentence, data).await;
    }

    /// What its keeper found gone.
    pub(super) async fn note_cleared(&mut self) {
        let Some((machine, State::Removed { receipt, .. })) = self.gone.take() else { return };
        let left = receipt.as_ref().map(|receipt| receipt.checks.leftovers.join(", ")).unwrap_or_default();
        let sentence = match (&receipt, left.as_str()) {
            (None, _) => "The machine's keeper has ended.".to_owned(),
            (Some(_), "") => "Nothing of the machine is left.".to_owned(),
            (Some(_), left) => format!("Of the machine this is left: {left}."),
        };
        self.say(CLEARED, sentence, json!({ "machine": machine, "receipt": receipt })).await;
    }

    pub(super) async fn note_not_gone(&mut self) {
        let Some(held) = &self.held else { return };
        let what = match &*held.state.borrow() {
            State::Exited { .. } => "has died, and its keeper",
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }
            | State::Removed { .. } => "was told to stop and",
        };
        let (machine, within) = (held.machine.clone(), self.app.config.sessions.cleanup_timeout_s);
        let sentence = format!("The machine {what} was not seen gone within {within} s.");
        self.say("machine_not_removed", sentence, json!({ "machine": machine })).await;
    }
}
