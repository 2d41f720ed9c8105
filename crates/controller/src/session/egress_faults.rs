//! The failed requests of a session's machines that can explain to its person why the tool failed.

use anteroom_egress::{EgressDecision, EgressOutcome};
use anteroom_wire::Problem;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Hosts that are remembered; the oldest is dropped.
const FAULTS_MAX: usize = 16;
/// A failure of a tool that names no host is attributed to a host that was unreachable at most this long before.
const ATTRIBUTION: Duration = Duration::from_secs(30);
/// The gate and the agent report independently: a request can be recorded this long after the failure that it caused.
const LATE: Duration = Duration::from_secs(2);

/// The problems of a host that is allowed and could not be reached.
pub const UNREACHABLE: [Problem; 3] = [Problem::EgressUnreachable, Problem::EgressTimeout, Problem::EgressProxy];

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressFault {
    /// The host.
    pub host: String,
    /// Why.
    pub problem: Problem,
    at: Instant,
}

/// The last failed request of each host, the newest last.
#[derive(Debug, Clone, Default)]
pub struct EgressFaults {
    faults: VecDeque<EgressFault>,
    reached_at: Option<Instant>,
}

impl EgressFault {
    /// Whether the host is allowed and could not be reached.
    pub fn is_unreachable(&self) -> bool {
        UNREACHABLE.contains(&self.problem)
    }
}

impl EgressFaults {
    /// Records a decision of the gate. Returns whether it is a fault of a host that had none.
    pub fn record(&mut self, decision: &EgressDecision) -> bool {
        match &decision.outcome {
            EgressOutcome::Allowed { .. } => self.reached_at = Some(Instant::now()),
            EgressOutcome::Closed { .. } => {}
            EgressOutcome::Failed { problem, .. } => return self.add(&decision.host, *problem),
        }
        false
    }

    fn add(&mut self, host: &str, problem: Problem) -> bool {
        let known = self.faults.iter().position(|fault| fault.host == host);
        match known {
            Some(index) => drop(self.faults.remove(index)),
            None if self.faults.len() == FAULTS_MAX => drop(self.faults.pop_front()),
            None => {}
        }
        self.faults.push_back(EgressFault { host: host.to_owned(), problem, at: Instant::now() });
        known.is_none()
    }

    /// The fault that explains a tool that failed at this time: that of a host which its text names, else the last host that was
    /// unreachable shortly before. A denied host that the text does not name may be the browser's.
    pub fn explain(&self, text: &str, failed_at: Option<Instant>) -> Option<&EgressFault> {
        let named = self.faults.iter().rfind(|fault| !fault.host.is_empty() && text.contains(&fault.host));
        let recent = |fault: &&EgressFault| {
            fault.is_unreachable() && failed_at.is_some_and(|at| fault.at <= at + LATE && at <= fault.at + ATTRIBUTION)
        };
        named.or_else(|| self.faults.iter().rev().find(recent))
    }

    /// The last unreachable host, if no host was reached since then.
    pub fn nothing_reached_since(&self, started: Instant) -> Option<&EgressFault> {
        if self.reached_at.is_some_and(|at| at >= started) {
            return None;
        }
        self.faults.iter().rfind(|fault| fault.is_unreachable() && fault.at >= started)
    }
}
