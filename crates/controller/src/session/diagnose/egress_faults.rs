//! Faults of the way to the provider's hosts.

use super::{
    DiagnosisInput, Finding, last_words,
    timeline_view::{
        TimelineView, data_last_lines, data_text, format_list, format_time, host_and_port, quote, quoted_last_lines,
    },
};
use crate::session::egress_faults::{CERTIFICATE, UNREACHABLE};
use anteroom_store::TimelineRow;
use anteroom_wire::{Problem, TimelineKind, agent::EgressBy, diagnosis::Verdict};

/// A tool's exit is attributed to a denied request at most this long before it, milliseconds.
pub(super) const ATTRIBUTION_MS: u64 = 30_000;
/// The gate and the agent write their entries independently: a denied request can be written this long after the exit that it
/// caused, milliseconds.
const LATE_MS: u64 = 2_000;

/// Requests that explain the tool's exit with an error. `ended`: a clause about that exit.
pub(super) fn find_cause_of_exit<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
    exit: &'a TimelineRow,
    ended: &str,
) -> Option<Finding<'a>> {
    let requests = denied_requests_before(timeline, exit)?;
    let names: Vec<String> = requests.iter().map(|entry| host_and_port(entry)).collect();
    let is_policy = requests.iter().any(|entry| is_denied_by_policy(entry));
    let (verdict, because) = match (certificate(&requests), proxy_answer(&requests)) {
        _ if is_policy => (Verdict::EgressDenied, "which the egress list of this provider does not allow".to_owned()),
        (Some((verdict, why)), _) => (verdict, format!("which is allowed, but {why}")),
        (None, Some(answer)) => {
            (Verdict::EgressProxy, format!("which is allowed but not through this server's proxy: {answer}"))
        }
        (None, None) => {
            let (hint, why) = (proxy_hint(input), failure_clause(&requests));
            let because = format!("which is allowed but could not be reached from this host{hint}{why}");
            (Verdict::EgressUnreachable, because)
        }
    };
    let at = requests.first().map(|entry| format_time(entry)).unwrap_or_default();
    let last_lines_clause = quoted_last_lines(exit);
    let sentence = format!(
        "The machine requested {} at {at}, {because}; then {ended}; no credential was delivered{last_lines_clause}.",
        format_list(&names)
    );
    Some(Finding::new(verdict, sentence, requests.into_iter().chain([exit])))
}

/// Denied or failed requests that explain the tool's exit: those whose host is in its last lines, else those of other programs than
/// the browser shortly before it, if its last lines speak of a connection or there are none. A certificate that the machine does not trust
/// wins over denied names: the host is one of those that the tool needs. Denied names win over unreachable hosts. So the verdict has one
/// cause.
fn denied_requests_before<'a>(timeline: &TimelineView<'a>, exit: &TimelineRow) -> Option<Vec<&'a TimelineRow>> {
    let in_time = |entry: &&TimelineRow| entry.at_ms <= exit.at_ms + LATE_MS;
    let before: Vec<_> = timeline.of_kind(TimelineKind::EgressDenied).filter(in_time).collect();
    let output = data_last_lines(exit).join("\n");
    let named =
        |entry: &&TimelineRow| !data_text(entry, "host").is_empty() && output.contains(data_text(entry, "host"));
    let is_connection = last_words::may_concern_a_connection(exit);
    let near = |entry: &&TimelineRow| {
        is_connection
            && entry.at_ms + ATTRIBUTION_MS >= exit.at_ms
            && data_text(entry, "by") != EgressBy::Browser.as_str()
    };
    let by_name: Vec<_> = before.iter().copied().filter(named).collect();
    let mut found = if by_name.is_empty() { before.into_iter().filter(near).collect() } else { by_name };
    if found.iter().any(|entry| is_untrusted(entry)) {
        found.retain(|entry| is_untrusted(entry));
    } else if found.iter().any(|entry| is_denied_by_policy(entry)) {
        found.retain(|entry| is_denied_by_policy(entry));
    }
    (!found.is_empty()).then_some(found)
}

/// Whether the request was denied by the gate's policy, and not because the network failed.
pub(super) fn is_denied_by_policy(entry: &TimelineRow) -> bool {
    !UNREACHABLE.map(Problem::code).contains(&data_text(entry, "reason"))
}

/// Whether the machine does not accept the host's certificate, and the gate found out why.
fn is_untrusted(entry: &TimelineRow) -> bool {
    CERTIFICATE.map(Problem::code).contains(&data_text(entry, "reason"))
}

/// What the gate found out about the certificate of one of these hosts, as a clause.
fn certificate(requests: &[&TimelineRow]) -> Option<(Verdict, String)> {
    let entry = requests.iter().find(|entry| is_untrusted(entry))?;
    let is_authority = data_text(entry, "reason") == Problem::EgressUnknownAuthority.code();
    let verdict = if is_authority { Verdict::UnknownAuthority } else { Verdict::CertificateNotValidNow };
    let why = Some(data_text(entry, "detail")).filter(|detail| !detail.is_empty());
    Some((verdict, why.unwrap_or("its certificate is not accepted").to_owned()))
}

/// The requests to hosts whose certificates the machine does not accept.
pub(super) fn untrusted_requests<'a>(timeline: &TimelineView<'a>) -> Vec<&'a TimelineRow> {
    timeline.of_kind(TimelineKind::EgressDenied).filter(|entry| is_untrusted(entry)).collect()
}

/// What the tool's own words about a certificate leave open: what the gate found out, as a clause after it.
pub(super) fn certificate_clause(timeline: &TimelineView<'_>) -> String {
    let requests = untrusted_requests(timeline);
    let host = requests.first().map(|entry| host_and_port(entry));
    match certificate(&requests).zip(host) {
        Some(((_, why), host)) => format!("; this server asked {host} itself: {why}"),
        None => String::new(),
    }
}

/// What this server's proxy answered, quoted, if it is the cause of one of these requests.
fn proxy_answer(requests: &[&TimelineRow]) -> Option<String> {
    let by_proxy = requests.iter().find(|entry| data_text(entry, "reason") == Problem::EgressProxy.code())?;
    Some(quote(data_text(by_proxy, "detail")))
}

/// Why the last of these requests failed, as the gate says it, as a clause.
fn failure_clause(requests: &[&TimelineRow]) -> String {
    let detail = requests.iter().rev().map(|entry| data_text(entry, "detail")).find(|detail| !detail.is_empty());
    detail.map_or_else(String::new, |detail| format!(": {detail}"))
}

/// That the environment names a proxy that is not used, as a clause.
fn proxy_hint(input: &DiagnosisInput<'_>) -> String {
    let clause = |variable| {
        format!(
            " without a proxy; {variable} in this server's environment names one that is not used: set egress.proxy.from_environment \
             or egress.proxy.url"
        )
    };
    input.unused_proxy_variable.map(clause).unwrap_or_default()
}

/// Allowed hosts were requested, none could be reached, and the tool has shown no sign-in address or code.
pub(super) fn find_unreachable<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let reached = timeline.of_kind(TimelineKind::EgressAllowed).next().is_some();
    let shown =
        timeline.last_of_kind(TimelineKind::SignInUrl).or(timeline.last_of_kind(TimelineKind::DeviceCode)).is_some()
            || input.supervisor.as_ref().is_some_and(|supervisor| supervisor.signing_in);
    let unreachable: Vec<_> =
        timeline.of_kind(TimelineKind::EgressDenied).filter(|entry| !is_denied_by_policy(entry)).collect();
    if reached || shown || unreachable.is_empty() {
        return None;
    }
    let names: Vec<String> = unreachable.iter().map(|entry| host_and_port(entry)).collect();
    if let Some(answer) = proxy_answer(&unreachable) {
        let sentence = format!(
            "None of the allowed hosts that were requested could be reached through this server's proxy ({}); {} waits: {answer}.",
            format_list(&names),
            input.tool
        );
        return Some(Finding::new(Verdict::EgressProxy, sentence, unreachable));
    }
    let sentence = format!(
        "None of the allowed hosts that were requested could be reached from this host{} ({}){}; {} waits.",
        proxy_hint(input),
        format_list(&names),
        failure_clause(&unreachable),
        input.tool
    );
    Some(Finding::new(Verdict::EgressUnreachable, sentence, unreachable))
}

/// The machine gave up connections to hosts that it is allowed, since it does not accept their certificates. Neither the tool nor a page of
/// the browser can go on.
pub(super) fn find_certificate<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let untrusted = |entry: &&TimelineRow| entry.kind == TimelineKind::EgressDenied && is_untrusted(entry);
    let requests: Vec<_> = timeline.machine.iter().filter(untrusted).collect();
    let (verdict, why) = certificate(&requests)?;
    let is_signed_in = [TimelineKind::ToolSignedIn, TimelineKind::CandidateAccepted];
    if is_signed_in.into_iter().any(|kind| timeline.last_of_kind(kind).is_some()) {
        return None;
    }
    let names: Vec<String> = requests.iter().map(|entry| host_and_port(entry)).collect();
    let sentence = format!(
        "The machine gave up its connection to {} at {}: {why}; {} waits.",
        format_list(&names),
        requests.first().map(|entry| format_time(entry)).unwrap_or_default(),
        input.tool
    );
    Some(Finding::new(verdict, sentence, requests))
}
