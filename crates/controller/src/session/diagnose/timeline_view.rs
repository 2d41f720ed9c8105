//! The timeline as the diagnosis reads it.

use crate::clock::{UnixMs, rfc3339};
use anteroom_machine::{ExitReason, StopReason};
use anteroom_store::TimelineRow;
use serde_json::Value;

/// Characters of a text from a guest that a sentence quotes.
const QUOTED_CHARS_MAX: usize = 400;
/// Lines of a tool's screen that a sentence quotes.
const QUOTED_LINES_MAX: usize = 4;

/// A timeline, and the part of it that belongs to the last machine.
#[derive(Debug)]
pub(super) struct TimelineView<'a> {
    /// All of it.
    pub all: &'a [TimelineRow],
    /// From the last `machine_requested` on; empty when no machine was asked for.
    pub machine: &'a [TimelineRow],
}

impl<'a> TimelineView<'a> {
    pub(super) fn new(all: &'a [TimelineRow]) -> Self {
        let from = all.iter().rposition(|entry| entry.kind == "machine_requested").unwrap_or(all.len());
        Self { all, machine: &all[from..] }
    }

    /// A timeline that belongs to one machine, an external one.
    pub(super) fn whole(all: &'a [TimelineRow]) -> Self {
        Self { all, machine: all }
    }

    /// Whether a stored credential is used, and nobody signs in.
    pub(super) fn is_use(&self) -> bool {
        self.every("accepted").any(|entry| !text(entry, "purpose").is_empty())
    }

    /// All entries of this kind.
    pub(super) fn every(&self, kind: &'static str) -> impl Iterator<Item = &'a TimelineRow> + use<'a> {
        self.all.iter().filter(move |entry| entry.kind == kind)
    }

    /// The last entry of this kind about the last machine.
    pub(super) fn last(&self, kind: &str) -> Option<&'a TimelineRow> {
        self.machine.iter().rfind(|entry| entry.kind == kind)
    }

    /// The last machine's end as the timeline has it.
    pub(super) fn gone(&self) -> Option<(&'a TimelineRow, ExitReason)> {
        gone_of(self.last("machine_exited")?)
    }

    /// The end of the machine before the last, or of the last: whichever came last.
    pub(super) fn last_gone(&self) -> Option<(&'a TimelineRow, ExitReason)> {
        self.all.iter().rev().find(|entry| entry.kind == "machine_exited").and_then(gone_of)
    }

    /// The entry with which the session ended.
    pub(super) fn end(&self) -> Option<&'a TimelineRow> {
        self.all.iter().rfind(|entry| matches!(entry.kind.as_str(), "completed" | "cancelled" | "expired" | "failed"))
    }
}

fn gone_of(entry: &TimelineRow) -> Option<(&TimelineRow, ExitReason)> {
    let why = serde_json::from_value(entry.data.get("why")?.clone()).ok()?;
    Some((entry, why))
}

/// Whether a machine ended because its session wanted it so.
pub(super) fn intended(why: &ExitReason) -> bool {
    let ExitReason::Stopped { why } = why else { return false };
    match why {
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
        | StopReason::Mismatch { .. } => false,
    }
}

/// A text in an entry's data; `""` when there is none.
pub(super) fn text<'a>(entry: &'a TimelineRow, key: &str) -> &'a str {
    entry.data.get(key).and_then(Value::as_str).unwrap_or("")
}

/// A number in an entry's data.
pub(super) fn number(entry: &TimelineRow, key: &str) -> Option<i64> {
    entry.data.get(key).and_then(Value::as_i64)
}

/// `host:port` of an entry about the way out.
pub(super) fn authority(entry: &TimelineRow) -> String {
    format!("{}:{}", text(entry, "host"), number(entry, "port").unwrap_or_default())
}

/// The lines of a screen in an entry's data that are not empty.
pub(super) fn lines(entry: &TimelineRow) -> Vec<&str> {
    let lines = entry.data.get("last_lines").and_then(Value::as_array).into_iter().flatten();
    lines.filter_map(Value::as_str).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// `; its last lines: …`, or nothing when it said nothing.
pub(super) fn last_words(entry: &TimelineRow) -> String {
    let lines = lines(entry);
    let last = &lines[lines.len().saturating_sub(QUOTED_LINES_MAX)..];
    if last.is_empty() { String::new() } else { format!("; its last lines: {}", quoted(&last.join(" / "))) }
}

/// A guest's text in quotation marks: bounded, without control characters.
pub(super) fn quoted(said: &str) -> String {
    let plain: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    format!("“{plain}”")
}

/// When an entry was written.
pub(super) fn when(entry: &TimelineRow) -> String {
    rfc3339(entry.at_ms)
}

/// `a, b and 3 more`.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// How long from one time to another: `3.2 s`.
pub(super) fn elapsed(from: UnixMs, to: UnixMs) -> String {
    let ms = to.saturating_sub(from);
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}
