//! A short record of many decisions: a browser opens fifty connections to five names; the timeline wants five lines.
//!
//! Pure: no clock, no I/O. Memory is bounded, since the names are the guest's.

use super::{EgressDecision, EgressOutcome};
use anteroom_wire::Problem;
use std::collections::BTreeMap;

/// What is worth a line on the timeline the outcome it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SummaryLine {
    /// The first connection to this name.
    FirstGranted {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// Where it leads, masked.
        address: String,
        /// Whether the operator's configuration answered the name.
        overridden: bool,
        /// Resolving and connecting, milliseconds.
        connect_ms: u64,
    },
    /// The first refusal of this name for this cause.
    FirstRefused {
        /// The name, as the guest wrote it (bounded, printable).
        host: String,
        /// The port.
        port: u16,
        /// Why.
        problem: Problem,
        /// Which stage said no.
        detail: String,
    },
    /// More names than the ledger keeps: from here on only the totals grow.
    Full {
        /// How many names it keeps.
        names_max: usize,
    },
}

/// The sum of all requests for one name and port.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HostTotals {
    /// The name; empty for the sum of those that found no room.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Connections that were opened.
    pub granted: u64,
    /// Requests that were refused, by the problem's code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Bytes from the machine, over all connections that have ended.
    pub bytes_up: u64,
    /// Bytes to the machine, likewise.
    pub bytes_down: u64,
}

/// Keeps count for one session.
#[derive(Debug)]
pub struct EgressSummary {
    names_max: usize,
    names: BTreeMap<(String, u16), HostTotals>,
    others: HostTotals,
    full: bool,
}

impl EgressSummary {
    /// A ledger that keeps at most `names_max` names apart.
    pub fn new(names_max: usize) -> Self {
        Self { names_max, names: BTreeMap::new(), others: HostTotals::default(), full: false }
    }

    /// Counts one decision; the answer is a line for the timeline if this says something new.
    pub fn record(&mut self, decision: &EgressDecision) -> Option<SummaryLine> {
        let key = (decision.host.clone(), decision.port);
        let known = self.names.contains_key(&key);
        if !known && self.names.len() >= self.names_max {
            count(&mut self.others, &decision.outcome);
            let first = !std::mem::replace(&mut self.full, true);
            return first.then_some(SummaryLine::LimitReached { names_max: self.names_max });
        }
        let (host, port) = key.clone();
        let totals = self.names.entry(key).or_insert_with(|| HostTotals { host, port, ..HostTotals::default() });
        let first = count(totals, &decision.outcome);
        if !first {
            return None;
        }
        let (host, port) = (decision.host.clone(), decision.port);
        match &decision.outcome {
            EgressOutcome::Granted { address, overridden, connect_ms } => Some(SummaryLine::FirstGranted {
                host,
                port,
                address: address.clone(),
                overridden: *overridden,
                connect_ms: *connect_ms,
            }),
            EgressOutcome::Refused { problem, detail, after_ms: _ } => {
                Some(SummaryLine::FirstRefused { host, port, problem: *problem, detail: detail.clone() })
            }
            EgressOutcome::Closed { .. } => None,
        }
    }

    /// The sums so far, by name; the last one, with an empty host, stands for all names that found no room.
    pub fn totals(&self) -> Vec<HostTotals> {
        let others = self.full.then(|| self.others.clone());
        self.names.values().cloned().chain(others).collect()
    }
}

/// Adds one outcome; whether it is the first of its kind.
fn count(totals: &mut HostTotals, outcome: &EgressOutcome) -> bool {
    match outcome {
        EgressOutcome::Granted { .. } => {
            totals.granted += 1;
            totals.granted == 1
        }
        EgressOutcome::Refused { problem, .. } => {
            let refused = totals.refused.entry(problem.code()).or_default();
            *refused += 1;
            *refused == 1
        }
        EgressOutcome::Closed { bytes_up, bytes_down, .. } => {
            totals.bytes_up += bytes_up;
            totals.bytes_down += bytes_down;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::CloseCause, *};

    fn granted(host: &str) -> EgressDecision {
        let outcome = EgressOutcome::Granted { address: "1.1.x.x".into(), overridden: false, connect_ms: 3 };
        EgressDecision { host: host.into(), port: 443, outcome }
    }

    fn refused(host: &str, problem: Problem) -> EgressDecision {
        EgressDecision {
            host: host.into(),
            port: 443,
            outcome: EgressOutcome::Refused { problem, detail: "why".into(), after_ms: 1 },
        }
    }

    fn closed(host: &str, bytes_up: u64, bytes_down: u64) -> EgressDecision {
        let outcome = EgressOutcome::Closed { bytes_up, bytes_down, duration_ms: 5, why: CloseCause::Completed };
        EgressDecision { host: host.into(), port: 443, outcome }
    }

    #[test]
    fn a_name_is_one_line_however_many_connections_it_gets() {
        let mut ledger = EgressSummary::new(10);
        assert!(matches!(ledger.record(&granted("a.example")), Some(SummaryLine::FirstGranted { .. })));
        assert_eq!(ledger.record(&granted("a.example")), None);
        assert_eq!(ledger.record(&closed("a.example", 10, 100)), None);
        assert_eq!(ledger.record(&closed("a.example", 1, 2)), None);
        let [totals] = &ledger.totals()[..] else { unreachable!("one name") };
        assert_eq!((totals.granted, totals.bytes_up, totals.bytes_down), (2, 11, 102));
    }

    #[test]
    fn a_refusal_is_one_line_for_each_name_and_cause() {
        let mut ledger = EgressSummary::new(10);
        assert!(ledger.record(&refused("a.example", Problem::EgressDenied)).is_some());
        assert!(ledger.record(&refused("a.example", Problem::EgressDenied)).is_none());
        assert!(ledger.record(&refused("a.example", Problem::EgressTimeout)).is_some());
        assert!(ledger.record(&refused("b.example", Problem::EgressDenied)).is_some());
        assert_eq!(ledger.totals()[0].refused, [("egress_denied", 2), ("egress_timeout", 1)].into());
    }

    #[test]
    fn a_guest_that_invents_names_cannot_fill_memory_or_timeline() {
        let mut ledger = EgressSummary::new(3);
        let lines = (0..1_000)
            .filter_map(|n| ledger.record(&refused(&format!("n{n}.example"), Problem::EgressDenied)))
            .count();
        assert_eq!(lines, 4, "three names and the word that the ledger is full");
        let totals = ledger.totals();
        assert_eq!(totals.len(), 4);
        assert_eq!(totals[3].host, "");
        assert_eq!(totals[3].refused["egress_denied"], 997);
    }
}
