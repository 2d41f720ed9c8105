//! Timeline entries about the end of a machine: its exit as soon as it is known, its removal as soon as its keeper has finished.
//!
//! ```text
//!  exited ─▶ machine_exited {why}               removed ─▶ machine_removed {receipt}
//!  a machine that was stopped, in one entry:    removed ─▶ machine_exited {why, receipt}
//! ```

use super::Supervisor;
use crate::{
    api_error::chain,
    session::{context::SessionContext, timeline::new_entry},
    unix_time::{self, UnixMs},
};
use anteroom_machine::{ExitReason, Receipt, State};
use anteroom_store::{NewTimelineEntry, StoreError, TimelineRow};
use anteroom_wire::{MachineId, SessionId, TimelineKind};
use serde_json::{Value, json};

/// Entries read at once.
const PAGE_ENTRIES: u32 = 500;
/// If an ended machine is not removed after this time, it is recorded and no longer waited for, seconds. A removal takes milliseconds; a
/// process that SIGKILL does not end in this time is stuck in the kernel.
pub(super) const CLEANUP_TIMEOUT_S: u64 = 30;

/// How a machine ended, for the timeline.
#[derive(Debug, Clone)]
pub struct ExitRecord {
    machine: MachineId,
    reason: ExitReason,
    /// The keeper's receipt, if the machine is removed and its keeper could write one.
    receipt: Option<Box<Receipt>>,
    /// Whether an earlier server requested the machine: that server may have recorded the exit.
    from_earlier_server: bool,
}

impl ExitRecord {
    pub(super) fn new(
        machine: MachineId,
        reason: ExitReason,
        receipt: Option<Box<Receipt>>,
        from_earlier_server: bool,
    ) -> Self {
        Self { machine, reason, receipt, from_earlier_server }
    }

    /// A machine that ended while no server ran.
    pub(in crate::session) fn of_earlier_server(machine: MachineId, receipt: Receipt) -> Self {
        Self::new(machine, receipt.exit_reason(), Some(Box::new(receipt)), true)
    }
}

/// The entry about a machine's exit.
pub(in crate::session) fn exit_entry(
    at_ms: UnixMs,
    machine: &MachineId,
    why: &ExitReason,
    receipt: Option<&Receipt>,
) -> NewTimelineEntry {
    let mut sentence = format!("{why}.");
    if let Some(first) = sentence.get(..1).map(str::to_uppercase) {
        sentence.replace_range(..1, &first);
    }
    let mut data = json!({ "machine": machine, "why": why });
    if let (Some(receipt), Some(data)) = (receipt, data.as_object_mut()) {
        data.insert("receipt".into(), json!(receipt));
    }
    NewTimelineEntry::new(at_ms, TimelineKind::MachineExited, sentence).with_data(data)
}

/// Whether this machine's exit is on the session's timeline.
///
/// # Errors
/// The database cannot be read.
pub(in crate::session) async fn is_exit_recorded(
    context: &SessionContext,
    session: &SessionId,
    machine: &MachineId,
) -> Result<bool, StoreError> {
    let mut after = 0;
    loop {
        let page = context.store.list_timeline(session, after, PAGE_ENTRIES).await?;
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
    entry.kind == TimelineKind::MachineExited
        && entry.data.get("machine").and_then(Value::as_str) == Some(machine.as_str())
}

impl Supervisor {
    /// Records how the machine ended and, if `with_receipt`, its keeper's receipt.
    pub(super) async fn record_machine_exit(&mut self, with_receipt: bool) {
        let Some(exit) = self.slot.exit_record() else { return };
        if exit.from_earlier_server {
            match is_exit_recorded(&self.server_context, &self.session.id, &exit.machine).await {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => {
                    tracing::warn!(outcome = "timeline_not_read", session = %self.session.id, error = %chain(&error), "timeline not read; the machine's exit is recorded, maybe twice");
                }
            }
        }
        let receipt = exit.receipt.filter(|_| with_receipt);
        self.append(exit_entry(unix_time::now_unix_ms(), &exit.machine, &exit.reason, receipt.as_deref())).await;
    }

    /// Records the removal and the keeper's receipt.
    pub(super) async fn record_removal(&mut self) {
        let Some(ExitRecord { machine, receipt, .. }) = self.slot.take_removed() else { return };
        let left = receipt.as_ref().map(|receipt| receipt.checks.leftovers.join(", ")).unwrap_or_default();
        let sentence = match (&receipt, left.as_str()) {
            (None, _) => "The machine's keeper has ended.".to_owned(),
            (Some(_), "") => "Nothing of the machine is left.".to_owned(),
            (Some(_), left) => format!("Leftovers of the machine: {left}."),
        };
        let data = json!({ "machine": machine, "receipt": receipt });
        self.append(new_entry(TimelineKind::MachineRemoved, sentence).with_data(data)).await;
    }

    /// Records that the cleanup did not finish in time.
    pub(super) async fn record_cleanup_timeout(&mut self) {
        let Some(started) = self.slot.started() else { return };
        let what = match started.state() {
            State::Exited { .. } => "exited and",
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }
            | State::Removed { .. } => "was stopped and",
        };
        let machine = started.id.clone();
        let sentence = format!("The machine {what} was not removed within {CLEANUP_TIMEOUT_S} s.");
        self.append(new_entry(TimelineKind::MachineNotRemoved, sentence).with_data(json!({ "machine": machine })))
            .await;
    }
}
