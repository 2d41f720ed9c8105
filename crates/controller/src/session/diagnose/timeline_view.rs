//! Queries on a session's timeline, and formatting of timeline data in sentences.

use crate::unix_time::{UnixMs, format_rfc3339};
use anteroom_machine::{ExitReason, StopReason};
use anteroom_store::TimelineRow;
use anteroom_wire::{TimelineKind, guest_text::clean_line};
use serde_json::Value;

/// The most characters of a guest's text that a sentence quotes.
const QUOTED_CHARS_MAX: usize = 400;
/// The most lines of a tool's screen that a sentence quotes.
const QUOTED_LINES_MAX: usize = 4;

/// A timeline and its part for the last machine.
#[derive(Debug)]
pub(super) struct TimelineView<'a> {
    /// The whole timeline.
    pub all: &'a [TimelineRow],
    /// The entries from the last `machine_requested` on; empty if no machine was requested.
    pub machine: &'a [TimelineRow],
}

impl<'a> TimelineView<'a> {
    pub(super) fn new(all: &'a [TimelineRow]) -> Self {
        let from = all.iter().rposition(|entry| entry.kind == TimelineKind::MachineRequested).unwrap_or(all.len());
        Self { all, machine: &all[from..] }
    }

    /// A timeline whose entries all belong to one machine, an external one.
    pub(super) fn of_one_machine(all: &'a [TimelineRow]) -> Self {
        Self { all, machine: all }
    }

    /// Whether the session uses a stored credential and has no sign-in.
    pub(super) fn is_credential_use(&self) -> bool {
        self.of_kind(TimelineKind::Accepted).any(|entry| !data_text(entry, "purpose").is_empty())
    }

    /// All entries of this kind, for all machines.
    pub(super) fn of_kind(&self, kind: TimelineKind) -> impl Iterator<Item = &'a TimelineRow> + use<'a> {
        self.all.iter().filter(move |entry| entry.kind == kind)
    }

    /// The last entry of this kind for the last machine.
    pub(super) fn last_of_kind(&self, kind: TimelineKind) -> Option<&'a TimelineRow> {
        self.machine.iter().rfind(|entry| entry.kind == kind)
    }

    /// The exit of the last machine.
    pub(super) fn last_machine_exit(&self) -> Option<(&'a TimelineRow, ExitReason)> {
        exit_reason(self.last_of_kind(TimelineKind::MachineExited)?)
    }

    /// The latest exit of any machine.
    pub(super) fn latest_exit(&self) -> Option<(&'a TimelineRow, ExitReason)> {
        self.all.iter().rev().find(|entry| entry.kind == TimelineKind::MachineExited).and_then(exit_reason)
    }

    /// The entry for the end of the session.
    pub(super) fn end_entry(&self) -> Option<&'a TimelineRow> {
        self.all.iter().rfind(|entry| entry.kind.is_session_end())
    }
}

fn exit_reason(entry: &TimelineRow) -> Option<(&TimelineRow, ExitReason)> {
    let why = serde_json::from_value(entry.data.get("why")?.clone()).ok()?;
    Some((entry, why))
}

/// Whether the session stopped the machine.
pub(super) fn is_intended(why: &ExitReason) -> bool {
    let ExitReason::Stopped { reason } = why else { return false };
    match reason {
        StopReason::Completed
        | StopReason::Cancelled
        | StopReason::IdleExpired
        | StopReason::DeadlineExpired
        | StopReason::Restarted => true,
        StopReason::Failed
        | StopReason::Orphaned
        | StopReason::Operator
        | StopReason::NotReady { .. }
        | StopReason::Hung { .. }
        | StopReason::ChannelViolation { .. }
        | StopReason::Mismatch { .. } => false,
    }
}

/// A text in an entry's data; `""` when there is none.
pub(super) fn data_text<'a>(entry: &'a TimelineRow, key: &str) -> &'a str {
    entry.data.get(key).and_then(Value::as_str).unwrap_or("")
}

/// A number in an entry's data.
pub(super) fn data_number(entry: &TimelineRow, key: &str) -> Option<i64> {
    entry.data.get(key).and_then(Value::as_i64)
}

/// `host:port` of an egress entry.
pub(super) fn host_and_port(entry: &TimelineRow) -> String {
    format!("{}:{}", data_text(entry, "host"), data_number(entry, "port").unwrap_or_default())
}

/// The non-empty lines of a screen in an entry's data.
pub(super) fn data_last_lines(entry: &TimelineRow) -> Vec<&str> {
    let lines = entry.data.get("last_lines").and_then(Value::as_array).into_iter().flatten();
    lines.filter_map(Value::as_str).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// `; its last lines: …`, or an empty text if there are no lines.
pub(super) fn quoted_last_lines(entry: &TimelineRow) -> String {
    let lines = data_last_lines(entry);
    let last = &lines[lines.len().saturating_sub(QUOTED_LINES_MAX)..];
    if last.is_empty() { String::new() } else { format!("; its last lines: {}", quote(&last.join(" / "))) }
}

/// A guest's text in quotation marks: bounded, without control characters.
pub(super) fn quote(text: &str) -> String {
    let plain: String = clean_line(text, usize::MAX).chars().take(QUOTED_CHARS_MAX).collect();
    format!("“{plain}”")
}

/// The time of an entry.
pub(super) fn format_time(entry: &TimelineRow) -> String {
    format_rfc3339(entry.at_ms)
}

/// `a, b and 3 more`.
pub(super) fn format_list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The time between two times: `3.2 s`.
pub(super) fn format_elapsed(from: UnixMs, to: UnixMs) -> String {
    let ms = to.saturating_sub(from);
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}
