//! Limits how many timeline entries of each kind one session may have, because guests and viewers cause most of them. What is above
//! the limit is counted, and one entry reports the count.

use anteroom_store::NewTimelineEntry;
use anteroom_wire::TimelineKind;
use std::collections::{BTreeMap, HashMap};

/// The most entries of one kind.
pub const ENTRIES_BY_KIND_MAX: u32 = 64;
/// The most bytes of the entries of one kind.
pub const BYTES_BY_KIND_MAX: usize = 24 * 1024;

/// The entries that a session has, by kind.
#[derive(Debug, Default)]
pub struct KindBudget {
    used: HashMap<TimelineKind, (u32, usize)>,
    dropped: BTreeMap<&'static str, u64>,
}

impl KindBudget {
    /// Counts an entry. Returns whether it is recorded.
    pub fn count(&mut self, entry: &NewTimelineEntry) -> bool {
        if !is_limited(entry.kind) {
            return true;
        }
        let bytes = entry.sentence.len() + entry.data.to_string().len();
        let (entries, used) = self.used.entry(entry.kind).or_default();
        if *entries >= ENTRIES_BY_KIND_MAX || *used + bytes > BYTES_BY_KIND_MAX {
            *self.dropped.entry(entry.kind.as_str()).or_default() += 1;
            return false;
        }
        (*entries, *used) = (*entries + 1, *used + bytes);
        true
    }

    /// Adds reports that were dropped for another reason.
    pub fn add_dropped(&mut self, reason: &'static str, reports: u64) {
        if reports > 0 {
            *self.dropped.entry(reason).or_default() += reports;
        }
    }

    /// The numbers of dropped entries by kind, since the last call.
    pub fn take_dropped(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.dropped)
    }
}

/// The egress gate limits its entries by the number of hosts; a session ends once.
fn is_limited(kind: TimelineKind) -> bool {
    let by_egress = matches!(
        kind,
        TimelineKind::EgressAllowed
            | TimelineKind::EgressDenied
            | TimelineKind::EgressFull
            | TimelineKind::EgressTotals
    );
    !by_egress && !kind.is_session_end() && kind != TimelineKind::ReportsDropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(kind: TimelineKind, bytes: usize) -> NewTimelineEntry {
        NewTimelineEntry::new(1, kind, "x".repeat(bytes)).with_data(json!({}))
    }

    #[test]
    fn a_kind_that_is_repeated_takes_nothing_from_other_kinds() {
        let mut budget = KindBudget::default();
        let recorded = (0..10_000).filter(|_| budget.count(&entry(TimelineKind::CliStarted, 10))).count();
        assert_eq!(recorded, ENTRIES_BY_KIND_MAX as usize);
        let bytes: usize =
            (0..1_000).filter(|_| budget.count(&entry(TimelineKind::CandidateRejected, 5_000))).map(|_| 5_000).sum();
        assert!(bytes <= BYTES_BY_KIND_MAX && bytes > BYTES_BY_KIND_MAX / 2, "{bytes}");
        assert!(budget.count(&entry(TimelineKind::CliExited, 10)));
        let dropped = budget.take_dropped();
        assert_eq!(dropped["cli_started"], 10_000 - u64::from(ENTRIES_BY_KIND_MAX));
        assert_eq!((dropped.len(), budget.take_dropped().len()), (2, 0));
    }
}
