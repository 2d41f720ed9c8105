//! Aggregates egress decisions: a browser opens fifty connections to five names, and the timeline gets five entries.
//!
//! Pure: no clock, no I/O. Memory is bounded, because the guest chooses the names.

use super::{EgressDecision, EgressOutcome, ReachedBy};
use anteroom_wire::{Problem, agent::EgressBy};
use std::collections::{BTreeMap, BTreeSet};

/// A decision that gets an entry on the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SummaryLine {
    /// The first connection to this name.
    FirstAllowed {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// The program that asks.
        asked_by: Option<EgressBy>,
        /// How the host was reached.
        by: ReachedBy,
        /// Time to resolve and connect, milliseconds.
        connect_ms: u64,
    },
    /// The first failed request for this name with this cause by this program.
    FirstFailed {
        /// The name, as the guest wrote it (bounded, printable).
        host: String,
        /// The port.
        port: u16,
        /// The program that asks.
        asked_by: Option<EgressBy>,
        /// The cause.
        problem: Problem,
        /// The stage that failed.
        detail: String,
    },
    /// The limit of names is reached: requests for further names are only counted together.
    LimitReached {
        /// The limit of names.
        names_max: usize,
    },
}

/// The sum of all requests for one name and port.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HostTotals {
    /// The name; empty for the sum of all names over the limit.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Connections that were opened.
    pub connections_allowed: u64,
    /// Failed requests, by the problem's code.
    pub failures_by_problem: BTreeMap<&'static str, u64>,
    /// Bytes from the machine, for all closed connections.
    pub bytes_up: u64,
    /// Bytes to the machine, for all closed connections.
    pub bytes_down: u64,
}

/// The totals of one name, and what is on the timeline about it.
#[derive(Debug, Default)]
struct Counted {
    totals: HostTotals,
    failed: BTreeSet<(&'static str, Option<EgressBy>)>,
}

/// The totals of one session.
#[derive(Debug)]
pub struct EgressSummary {
    names_max: usize,
    names: BTreeMap<(String, u16), Counted>,
    others: Counted,
    limit_reached: bool,
}

impl EgressSummary {
    /// Counts at most `names_max` names separately.
    pub fn new(names_max: usize) -> Self {
        Self { names_max, names: BTreeMap::new(), others: Counted::default(), limit_reached: false }
    }

    /// Counts one decision. Returns an entry for the timeline if the decision is the first of its kind for this name.
    pub fn record(&mut self, decision: &EgressDecision) -> Option<SummaryLine> {
        let key = (decision.host.clone(), decision.port);
        let known = self.names.contains_key(&key);
        if !known && self.names.len() >= self.names_max {
            self.others.count(decision);
            let first = !std::mem::replace(&mut self.limit_reached, true);
            return first.then_some(SummaryLine::LimitReached { names_max: self.names_max });
        }
        let (host, port) = key.clone();
        let new = || Counted { totals: HostTotals { host, port, ..HostTotals::default() }, failed: BTreeSet::new() };
        if !self.names.entry(key).or_insert_with(new).count(decision) {
            return None;
        }
        let (host, port, asked_by) = (decision.host.clone(), decision.port, decision.by);
        match &decision.outcome {
            EgressOutcome::Allowed { by, connect_ms } => {
                Some(SummaryLine::FirstAllowed { host, port, asked_by, by: by.clone(), connect_ms: *connect_ms })
            }
            EgressOutcome::Failed { problem, detail, after_ms: _ } => {
                Some(SummaryLine::FirstFailed { host, port, asked_by, problem: *problem, detail: detail.clone() })
            }
            EgressOutcome::Closed { .. } => None,
        }
    }

    /// The totals by name; the last one, with an empty host, is for all names over the limit.
    pub fn totals(&self) -> Vec<HostTotals> {
        let others = self.limit_reached.then_some(&self.others);
        self.names.values().chain(others).map(|counted| counted.totals.clone()).collect()
    }
}

impl Counted {
    /// Adds one decision. Returns true if it is the first of its kind.
    fn count(&mut self, decision: &EgressDecision) -> bool {
        let totals = &mut self.totals;
        match &decision.outcome {
            EgressOutcome::Allowed { .. } => {
                totals.connections_allowed += 1;
                totals.connections_allowed == 1
            }
            EgressOutcome::Failed { problem, .. } => {
                *totals.failures_by_problem.entry(problem.code()).or_default() += 1;
                self.failed.insert((problem.code(), decision.by))
            }
            EgressOutcome::Closed { bytes_up, bytes_down, .. } => {
                totals.bytes_up += bytes_up;
                totals.bytes_down += bytes_down;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::CloseCause, *};

    fn allowed(host: &str) -> EgressDecision {
        let outcome = EgressOutcome::Allowed { by: ReachedBy::Address("1.1.x.x".into()), connect_ms: 3 };
        EgressDecision { host: host.into(), port: 443, by: None, outcome }
    }

    fn failed(host: &str, problem: Problem) -> EgressDecision {
        EgressDecision {
            host: host.into(),
            port: 443,
            by: None,
            outcome: EgressOutcome::Failed { problem, detail: "why".into(), after_ms: 1 },
        }
    }

    fn closed(host: &str, bytes_up: u64, bytes_down: u64) -> EgressDecision {
        let outcome = EgressOutcome::Closed { bytes_up, bytes_down, duration_ms: 5, why: CloseCause::Completed };
        EgressDecision { host: host.into(), port: 443, by: None, outcome }
    }

    #[test]
    fn many_connections_to_one_name_have_one_timeline_entry() {
        let mut summary = EgressSummary::new(10);
        assert!(matches!(summary.record(&allowed("a.example")), Some(SummaryLine::FirstAllowed { .. })));
        assert_eq!(summary.record(&allowed("a.example")), None);
        assert_eq!(summary.record(&closed("a.example", 10, 100)), None);
        assert_eq!(summary.record(&closed("a.example", 1, 2)), None);
        let [totals] = &summary.totals()[..] else { unreachable!("one name") };
        assert_eq!((totals.connections_allowed, totals.bytes_up, totals.bytes_down), (2, 11, 102));
    }

    #[test]
    fn failed_requests_have_one_timeline_entry_for_each_name_and_cause() {
        let mut summary = EgressSummary::new(10);
        assert!(summary.record(&failed("a.example", Problem::EgressDenied)).is_some());
        assert!(summary.record(&failed("a.example", Problem::EgressDenied)).is_none());
        assert!(summary.record(&failed("a.example", Problem::EgressTimeout)).is_some());
        assert!(summary.record(&failed("b.example", Problem::EgressDenied)).is_some());
        assert_eq!(summary.totals()[0].failures_by_problem, [("egress_denied", 2), ("egress_timeout", 1)].into());
    }

    #[test]
    fn a_name_that_two_programs_request_has_an_entry_for_each() {
        let mut summary = EgressSummary::new(10);
        for by in [EgressBy::Browser, EgressBy::Tool, EgressBy::Browser] {
            let is_new = by == EgressBy::Tool || summary.totals().is_empty();
            let line = summary.record(&EgressDecision { by: Some(by), ..failed("a.example", Problem::EgressDenied) });
            assert_eq!(line.is_some(), is_new, "{by:?}");
        }
        assert_eq!(summary.totals()[0].failures_by_problem, [("egress_denied", 3)].into());
    }

    #[test]
    fn many_different_names_cannot_fill_memory_or_timeline() {
        let mut summary = EgressSummary::new(3);
        let lines =
            (0..1_000).filter_map(|n| summary.record(&failed(&format!("n{n}.example"), Problem::EgressDenied))).count();
        assert_eq!(lines, 4, "three names and the entry for the limit");
        let totals = summary.totals();
        assert_eq!(totals.len(), 4);
        assert_eq!(totals[3].host, "");
        assert_eq!(totals[3].failures_by_problem["egress_denied"], 997);
    }
}
