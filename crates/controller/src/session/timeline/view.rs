//! A timeline entry as callers see it.

use crate::{
    session::host_facts::{Audience, hide_in_entry},
    unix_time::format_rfc3339,
};
use anteroom_store::TimelineRow;
use anteroom_wire::api::TimelineEntry;

/// A timeline entry.
pub fn to_timeline_entry(mut row: TimelineRow, audience: Audience) -> TimelineEntry {
    hide_in_entry(&mut row, audience);
    TimelineEntry {
        number: row.number,
        at: format_rfc3339(row.at_ms),
        kind: row.kind,
        sentence: row.sentence,
        // It is an object in the API.
        data: if row.data.is_null() { serde_json::json!({}) } else { row.data },
    }
}
