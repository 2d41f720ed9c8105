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
pub const UNREACHABLE: [Problem; 5] = [
    Problem::EgressUnreachable,
    Problem::EgressTimeout,
    Problem::EgressProxy,
    Problem::EgressUnknownAuthority,
    Problem::EgressCertificateDates,
];
/// The problems of a host that accepts connections, and whose certificate the machine does not accept.
pub const CERTIFICATE: [Problem; 2] = [Problem::EgressUnknownAuthority, Problem::EgressCertificateDates];

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressFault {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Why.
    pub problem: Problem,
    /// When it failed last.
    pub at: Instant,
    /// Whether the host was reached since then.
    is_over: bool,
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
    /// Records a decision of the gate. Returns whether a host has a fault that had none, or has none any more.
    pub fn record(&mut self, decision: &EgressDecision) -> bool {
        match &decision.outcome {
            EgressOutcome::Allowed { .. } => {
                self.reached_at = Some(Instant::now());
                // A host with such a certificate accepts connections, and remains of no use to this machine.
                let mut faults = self.faults.iter_mut().filter(|fault| !CERTIFICATE.contains(&fault.problem));
                let ended = faults.find(|fault| (&fault.host, fault.port) == (&decision.host, decision.port));
                return ended.is_some_and(|fault| !std::mem::replace(&mut fault.is_over, true));
            }
            EgressOutcome::Closed { .. } => {}
            EgressOutcome::Failed { problem, .. } => return self.add(&decision.host, decision.port, *problem),
        }
        false
    }

    /// The fault of this host if it was not reached since then; the newest, if several of its ports have one.
    pub fn of_host(&self, host: &str) -> Option<&EgressFault> {
        self.present().rev().find(|fault| fault.host.eq_ignore_ascii_case(host))
    }

    /// The faults of hosts that were not reached since then, the newest last.
    pub fn present(&self) -> impl DoubleEndedIterator<Item = &EgressFault> {
        self.faults.iter().filter(|fault| !fault.is_over)
    }

    /// Forgets the fault of a host that is allowed from now on.
    pub fn forget(&mut self, host: &str, port: u16) {
        self.faults.retain(|fault| (fault.host.as_str(), fault.port) != (host, port));
    }

    /// Records what the timeline of a session has: each kind of failure of a host only once, so that whether an unreachable one was reached
    /// later is not known. It explains a failure of the tool, and is not taken to last.
    pub fn restore_fault(&mut self, host: &str, port: u16, problem: Problem, at: Instant) {
        if self.faults.iter().any(|fault| fault.host == host && fault.port == port && fault.at >= at) {
            return;
        }
        self.add(host, port, problem);
        if let Some(fault) = self.faults.back_mut() {
            fault.at = at;
            fault.is_over = fault.is_unreachable() && !CERTIFICATE.contains(&problem);
        }
    }

    /// Records that the timeline says when a host was reached first.
    pub fn restore_reached(&mut self, host: &str, port: u16, at: Instant) {
        self.reached_at = self.reached_at.max(Some(at));
        let of_host = |fault: &&mut EgressFault| fault.host == host && fault.port == port && fault.at <= at;
        let faults = self.faults.iter_mut().filter(of_host);
        faults.filter(|fault| !CERTIFICATE.contains(&fault.problem)).for_each(|fault| fault.is_over = true);
    }

    fn add(&mut self, host: &str, port: u16, problem: Problem) -> bool {
        let known = self.faults.iter().position(|fault| fault.host == host && fault.port == port);
        let is_new = known.and_then(|index| self.faults.get(index)).is_none_or(|fault| fault.is_over);
        match known {
            Some(index) => drop(self.faults.remove(index)),
            None if self.faults.len() == FAULTS_MAX => drop(self.faults.pop_front()),
            None => {}
        }
        let fault = EgressFault { host: host.to_owned(), port, problem, at: Instant::now(), is_over: false };
        self.faults.push_back(fault);
        is_new
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

    /// The last unreachable host, if no host was reached since then or its certificate is not accepted.
    pub fn nothing_reached_since(&self, started: Instant) -> Option<&EgressFault> {
        let is_reached = self.reached_at.is_some_and(|at| at >= started);
        self.faults.iter().rfind(|fault| {
            let is_certain = !is_reached || CERTIFICATE.contains(&fault.problem);
            is_certain && fault.is_unreachable() && fault.at >= started
        })
    }
}
