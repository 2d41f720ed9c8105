//! `anteroom doctor --network PROVIDER`: checks the way to every host of a provider.

use super::super::{one_line, print_line, progress::Wait};
use anteroom_controller::{
    config::Config,
    egress::{self, HostReport, HostStatus, NetworkReport},
    providers::Providers,
};
use anteroom_server::DEMO_HOST;
use anteroom_wire::ProviderId;
use owo_colors::{OwoColorize, Stream::Stdout};
use std::process::ExitCode;

pub(crate) async fn run(
    config: &Config,
    provider: &ProviderId,
    host: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let providers = Providers::load(config).map_err(|errors| anyhow::anyhow!("{}", errors.join("\n")))?;
    let Some(descriptor) = providers.get(provider) else {
        anyhow::bail!("there is no provider {provider}; there are {}", providers.comma_separated_ids());
    };
    let mut descriptor = descriptor.clone();
    // Only the server that was started with `--demo` answers under this name.
    let is_demo = host.is_none() && descriptor.egress.iter().any(|rule| rule.host == DEMO_HOST);
    descriptor.egress.retain(|rule| !is_demo || rule.host != DEMO_HOST);
    let wait = Wait::begin("Connecting to the provider's hosts…");
    let report = egress::check_network(config, &descriptor, host).await?;
    drop(wait);
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
        if is_demo {
            print_line(format_args!("{DEMO_HOST} is answered by `anteroom serve --demo` itself: it needs no network."));
        }
    }
    let failed = report.hosts.iter().any(|host| host.status == HostStatus::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_report(report: &NetworkReport) {
    match (&report.proxy, report.unused_proxy_variable) {
        (Some(proxy), _) => print_line(format_args!("Proxy: {proxy}")),
        (None, Some(variable)) => print_line(format_args!("Proxy: none; {variable} is set and not used")),
        (None, None) => print_line("Proxy: none"),
    }
    for host in &report.hosts {
        print_host(host);
    }
    let failed = report.hosts.iter().filter(|host| host.status == HostStatus::Failed).count();
    if failed > 0 {
        print_line(format_args!("\n{failed} of {} hosts cannot be used.", report.hosts.len()));
    }
}

fn print_host(host: &HostReport) {
    let name = format!("{}:{}", one_line(&host.host), host.port);
    let mark = match host.status {
        HostStatus::Ok => "ok     ".if_supports_color(Stdout, |mark| mark.green()).to_string(),
        HostStatus::Failed => "FAILED ".if_supports_color(Stdout, |mark| mark.red()).to_string(),
        HostStatus::Pattern => "granted".if_supports_color(Stdout, |mark| mark.dimmed()).to_string(),
    };
    print_line(format_args!("{mark} {name:<36} {}", found(host)));
    if let Some(failure) = &host.failure {
        print_line(format_args!("        {}: {}", failure.cause, one_line(&failure.detail)));
        print_line(format_args!("        {}", failure.remedy));
    }
}

/// What was found on the way, as far as it went.
fn found(host: &HostReport) -> String {
    if host.status == HostStatus::Pattern {
        return "a pattern; check a name with --host".to_owned();
    }
    let mut parts = Vec::new();
    if !host.addresses.is_empty() {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        parts.push(addresses.join(", "));
    }
    parts.extend(host.way.map(str::to_owned));
    parts.extend(host.connect_ms.map(|ms| format!("connected in {ms} ms")));
    if let (Some(version), Some(issuer), Some(ms)) = (host.tls_version, &host.tls_issuer, host.tls_ms) {
        parts.push(format!("{version} in {ms} ms, issuer {}", one_line(issuer)));
    }
    parts.push(format!("{} ms", host.total_ms));
    parts.join("; ")
}
