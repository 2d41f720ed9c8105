//! Of the reports in one batch that replace each other, the newest.

use anteroom_wire::agent::{AgentEvent, CaptureEvent, MachineEvent, NumberedEvent, SignInEvent, Stage, UrlSource};
use std::collections::HashSet;

/// What an event reports, if a later report replaces an earlier one.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Report {
    Stage(Stage),
    MemoryPressure { low: bool },
    DeliveryRetry,
    Url(UrlSource),
    DeviceCode,
}

/// Removes reports that a later one of the same batch replaces: neither the state nor the timeline needs them.
pub(super) fn retain_newest(events: &mut Vec<NumberedEvent>) {
    let mut newer = HashSet::new();
    let mut kept: Vec<NumberedEvent> = std::mem::take(events)
        .into_iter()
        .rev()
        .filter(|numbered| to_report(&numbered.event).is_none_or(|report| newer.insert(report)))
        .collect();
    kept.reverse();
    *events = kept;
}

fn to_report(event: &AgentEvent) -> Option<Report> {
    match event {
        AgentEvent::Machine(MachineEvent::Stage(report)) => Some(Report::Stage(report.stage)),
        AgentEvent::Machine(MachineEvent::MemoryPressure { low, .. }) => Some(Report::MemoryPressure { low: *low }),
        AgentEvent::Capture(CaptureEvent::DeliveryRetry { .. }) => Some(Report::DeliveryRetry),
        AgentEvent::SignIn(SignInEvent::Url(url)) => Some(Report::Url(url.source)),
        AgentEvent::SignIn(SignInEvent::DeviceCode { .. }) => Some(Report::DeviceCode),
        AgentEvent::Machine(_)
        | AgentEvent::Tool(_)
        | AgentEvent::SignIn(_)
        | AgentEvent::Capture(_)
        | AgentEvent::CredentialUse(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::agent::{SignInUrl, ToolEvent};

    #[test]
    fn the_newest_report_of_each_kind_and_everything_else_is_kept_in_order() {
        let url = |source, url: &str| AgentEvent::SignIn(SignInEvent::Url(SignInUrl { source, url: url.into() }));
        let code = |code: &str| AgentEvent::SignIn(SignInEvent::DeviceCode { code: code.into() });
        let started = || AgentEvent::Tool(ToolEvent::Started);
        let events = [
            url(UrlSource::BrowserCommand, "https://a/1"),
            started(),
            code("A"),
            url(UrlSource::Screen, "https://a/2"),
            code("B"),
            url(UrlSource::BrowserCommand, "https://a/3"),
            started(),
        ];
        let mut events: Vec<NumberedEvent> =
            (1..).zip(events).map(|(number, event)| NumberedEvent { number, at_unix_ms: 0, event }).collect();
        retain_newest(&mut events);
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [2, 4, 5, 6, 7]);
    }
}
