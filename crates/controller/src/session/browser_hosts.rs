//! The requests that the machine's browser makes by itself: no tool and no page needs them, so they explain nothing.

use anteroom_egress::{EgressDecision, EgressOutcome};
use anteroom_wire::{Problem, agent::EgressBy};

/// The hosts that Chromium requests of its own accord, and which no page needs. Sorted.
const CHROMIUM_HOSTS: [&str; 14] = [
    "android.clients.google.com",
    "clients1.google.com",
    "clients2.google.com",
    "clients4.google.com",
    "clientservices.googleapis.com",
    "content-autofill.googleapis.com",
    "dl.google.com",
    "edgedl.me.gvt1.com",
    "mtalk.google.com",
    "optimizationguide-pa.googleapis.com",
    "passwordsleakcheck-pa.googleapis.com",
    "redirector.gvt1.com",
    "safebrowsing.googleapis.com",
    "update.googleapis.com",
];

/// Whether Chromium was denied this host, and not a tool or a page: a host that the provider's list has is denied to none. Without `by`
/// (a machine whose agent does not name the program) the host decides.
pub fn is_browsers_own(host: &str, problem: &str, by: Option<EgressBy>) -> bool {
    by != Some(EgressBy::Tool) && problem == Problem::EgressDenied.code() && CHROMIUM_HOSTS.binary_search(&host).is_ok()
}

/// Whether the browser says itself that the gate denied it a host of its own.
pub(super) fn is_own_decision(decision: &EgressDecision) -> bool {
    let EgressOutcome::Failed { problem, .. } = &decision.outcome else { return false };
    decision.by == Some(EgressBy::Browser) && is_browsers_own(&decision.host, problem.code(), decision.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_chromium_are_its_own_unless_a_provider_allows_them_or_a_tool_asks() {
        assert!(CHROMIUM_HOSTS.is_sorted());
        let denied = |host, by| is_browsers_own(host, Problem::EgressDenied.code(), by);
        for (by, is_own) in [(None, true), (Some(EgressBy::Browser), true), (Some(EgressBy::Tool), false)] {
            assert_eq!(denied("update.googleapis.com", by), is_own, "{by:?}");
            assert!(!denied("accounts.google.com", by));
            assert!(!is_browsers_own("update.googleapis.com", Problem::EgressUnreachable.code(), by));
        }
    }

    #[test]
    fn only_a_request_of_the_browser_itself_is_left_off_the_timeline() {
        let outcome = || EgressOutcome::Failed { problem: Problem::EgressDenied, detail: String::new(), after_ms: 1 };
        let of = |host: &str, by| EgressDecision { host: host.to_owned(), port: 443, by, outcome: outcome() };
        assert!(is_own_decision(&of("update.googleapis.com", Some(EgressBy::Browser))));
        assert!(!is_own_decision(&of("update.googleapis.com", Some(EgressBy::Tool))));
        assert!(!is_own_decision(&of("update.googleapis.com", None)));
        assert!(!is_own_decision(&of("tracker.example", Some(EgressBy::Browser))));
    }
}
