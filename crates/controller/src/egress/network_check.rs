//! The check of a provider's hosts, by the gate's own code: `anteroom doctor --network PROVIDER`.

use super::{EgressSetupError, load_overrides, open_gate, open_proxy, trusted_authorities, unused_proxy_variable};
use crate::config::Config;
use anteroom_egress::{EgressGate, Probe, ProbeFailure, ProbeTls, Way};
use anteroom_wire::{Problem, provider::Provider};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::net::IpAddr;

/// Hosts that are checked at once.
const CHECKS_AT_ONCE: usize = 8;
const HTTPS_PORT: u16 = 443;

/// The result for all hosts of a provider.
#[derive(Debug, Serialize)]
pub struct NetworkReport {
    /// The provider's id.
    pub provider: String,
    /// The proxy that is configured: its URL without user and password.
    pub proxy: Option<String>,
    /// A variable of the environment that names a proxy and is not used.
    pub unused_proxy_variable: Option<&'static str>,
    /// One entry for each host and port, in the descriptor's order.
    pub hosts: Vec<HostReport>,
}

/// The result for one host.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// The name, as in the descriptor.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The result.
    pub status: HostStatus,
    /// What the name server answered; empty if the name was not resolved here.
    pub addresses: Vec<IpAddr>,
    /// `direct`, `override` or `proxy`.
    pub way: Option<&'static str>,
    /// Time to resolve the name, milliseconds.
    pub resolve_ms: Option<u64>,
    /// Time to connect, through the proxy if there is one, milliseconds.
    pub connect_ms: Option<u64>,
    /// The version of TLS.
    pub tls_version: Option<&'static str>,
    /// The issuer of the host's certificate.
    pub tls_issuer: Option<String>,
    /// Time of the TLS handshake, milliseconds.
    pub tls_ms: Option<u64>,
    /// Time of the whole check, milliseconds.
    pub total_ms: u64,
    /// Why the host cannot be used.
    pub failure: Option<HostFailure>,
}

/// Whether a host can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostStatus {
    /// It can.
    Ok,
    /// It cannot.
    Failed,
    /// A pattern (`*.example.com`) names no host that can be checked.
    Pattern,
}

/// Why a host cannot be used.
#[derive(Debug, Serialize)]
pub struct HostFailure {
    /// A problem's code, or `unknown_authority`, `certificate_invalid`, `tls_failed`, `tls_timeout`.
    pub cause: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

/// Why the check cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkCheckError {
    /// The gate cannot be made.
    #[error(transparent)]
    Setup(#[from] EgressSetupError),
    /// No authority is trusted.
    #[error("this host trusts no certificate authorities: install ca-certificates")]
    NoAuthorities,
}

/// Checks every host of `provider`, or only `host` (a name, with `:` and a port unless it is 443).
///
/// # Errors
/// The gate cannot be made as configured.
pub async fn check_network(
    config: &Config,
    provider: &Provider,
    host: Option<&str>,
) -> Result<NetworkReport, NetworkCheckError> {
    let gate = open_gate(config, load_overrides(config)?)?;
    let tls = ProbeTls::new(trusted_authorities(config)?).map_err(|_| NetworkCheckError::NoAuthorities)?;
    let unused_proxy_variable = unused_proxy_variable(config);
    let hosts: Vec<_> = match host {
        Some(host) => vec![parse_host(host)],
        None => hosts_of(provider),
    };
    let check = |(host, port)| check_host(&gate, provider, host, port, &tls, unused_proxy_variable);
    let hosts = stream::iter(hosts).map(check).buffered(CHECKS_AT_ONCE).collect().await;
    let proxy = open_proxy(config)?.map(|proxy| proxy.to_string());
    Ok(NetworkReport { provider: provider.id.to_string(), proxy, unused_proxy_variable, hosts })
}

/// The hosts of the descriptor with their ports.
fn hosts_of(provider: &Provider) -> Vec<(String, u16)> {
    let of_rule = |rule: &anteroom_wire::provider::EgressRule| {
        let ports = if rule.ports.is_empty() { vec![HTTPS_PORT] } else { rule.ports.clone() };
        let host = rule.host.clone();
        ports.into_iter().map(move |port| (host.clone(), port))
    };
    let mut hosts: Vec<_> = provider.egress.iter().flat_map(of_rule).collect();
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.clone()));
    hosts
}

fn parse_host(text: &str) -> (String, u16) {
    let with_port = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    with_port.unwrap_or_else(|| (text.to_owned(), HTTPS_PORT))
}

async fn check_host(
    gate: &EgressGate,
    provider: &Provider,
    host: String,
    port: u16,
    tls: &ProbeTls,
    unused_proxy_variable: Option<&'static str>,
) -> HostReport {
    let mut report = HostReport {
        host,
        port,
        status: HostStatus::Pattern,
        addresses: Vec::new(),
        way: None,
        resolve_ms: None,
        connect_ms: None,
        tls_version: None,
        tls_issuer: None,
        tls_ms: None,
        total_ms: 0,
        failure: None,
    };
    if report.host.starts_with("*.") {
        return report;
    }
    let Probe { answers, way, resolve_ms, connect_ms, tls, total_ms, failure } =
        gate.probe(provider, &report.host, port, tls).await;
    report.status = if failure.is_some() { HostStatus::Failed } else { HostStatus::Ok };
    report.addresses = answers;
    report.way = way.map(|way| match way {
        Way::Direct(_) => "direct",
        Way::Override(_) => "override",
        Way::Proxy => "proxy",
    });
    (report.resolve_ms, report.connect_ms, report.total_ms) = (resolve_ms, connect_ms, total_ms);
    if let Some(tls) = tls {
        report.tls_version = Some(tls.version);
        report.tls_issuer = Some(tls.issuer);
        report.tls_ms = Some(tls.handshake_ms);
    }
    report.failure = failure.map(|failure| describe_failure(&failure, unused_proxy_variable));
    report
}

fn describe_failure(failure: &ProbeFailure, unused_proxy_variable: Option<&'static str>) -> HostFailure {
    let (cause, remedy) = match failure {
        ProbeFailure::Gate(error) => match (error.problem, unused_proxy_variable) {
            (Problem::EgressUnreachable | Problem::EgressTimeout, Some(variable)) => (
                error.problem.code(),
                format!(
                    "{variable} is set in this environment, and the configuration does not use it: set \
                     egress.proxy.from_environment, or egress.proxy.url."
                ),
            ),
            (Problem::EgressUnreachable | Problem::EgressTimeout, None) => (
                error.problem.code(),
                "Check this host's connection to the Internet and its name server; if a proxy is the only way out, set \
                 egress.proxy.url."
                    .to_owned(),
            ),
            (Problem::EgressPrivate, _) => (error.problem.code(), special_answer(error.refused_answer)),
            (problem, _) => (problem.code(), problem.remedy().to_owned()),
        },
        ProbeFailure::UnknownAuthority { .. } => (
            "unknown_authority",
            "If a proxy on the way inspects TLS, add its certificate authority to egress.extra_ca_files; else find out who answers \
             for this host."
                .to_owned(),
        ),
        ProbeFailure::Certificate { .. } | ProbeFailure::Dates { .. } => (
            "certificate_invalid",
            "Compare this host's clock with the dates, and find out who answers for this host.".to_owned(),
        ),
        ProbeFailure::Tls(_) => {
            ("tls_failed", "Something on the way breaks TLS: a firewall, a captive portal or a proxy.".to_owned())
        }
        ProbeFailure::TlsTimeout(_) => (
            "tls_timeout",
            "Packets are lost on the way, mostly large ones: check the MTU, and firewalls that inspect TLS.".to_owned(),
        ),
    };
    HostFailure { cause, detail: failure.to_string(), remedy }
}

fn special_answer(refused: Option<IpAddr>) -> String {
    let range = refused.and_then(anteroom_egress::special_range);
    match range.map(|range| range.network) {
        Some(network) => format!(
            "If your name server answers so on purpose (fake-IP DNS, NAT64, split DNS), set egress.allowed_special_ranges = \
             [\"{network}\"]; else ask another name server."
        ),
        None => Problem::EgressPrivate.remedy().to_owned(),
    }
}
