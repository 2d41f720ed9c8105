//! `anteroom doctor`: checks this host and lists every problem.

mod database;
mod isolation;
pub(super) mod leaks;
pub(super) mod network;
pub(super) mod public_url;

use super::{
    client::{ApiClient, ClientError},
    machine_environment::images_dir,
    print_line,
    progress::Wait,
    status::NOT_RUNNING,
};
use anteroom_controller::{
    api_error::chain,
    config::Config,
    egress,
    external::ExternalMachines,
    providers::Providers,
    state_file_system::{FileSystemKind, StateFileSystem},
    tls::TlsCertificate,
};
use anteroom_machine::{
    image::{self, Image},
    qemu,
};
use anteroom_wire::api::{Health, HealthCheck, HealthStatus};
use owo_colors::{OwoColorize, Stream::Stdout};
use serde::Serialize;
use std::process::ExitCode;

/// One check and its result.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    #[serde(flatten)]
    finding: Finding,
}

/// The result of one check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "status", content = "detail")]
enum Finding {
    Ok(String),
    /// Works, but not as it should.
    Degraded(String),
    Missing(String),
    /// Neither works nor is needed.
    Unused(String),
}

fn check(name: impl Into<String>, finding: Finding) -> Check {
    Check { name: name.into(), finding }
}

pub(super) async fn run(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let wait = Wait::begin("Checking this host…");
    let image = Image::open_current(&images_dir(config));
    let mut checks = tools(image.is_ok()).await;
    checks.push(check("providers", providers(config)));
    checks.push(check("image", describe_image(image.as_ref().map_err(ToString::to_string))));
    checks.extend(isolation::check_isolation(config, image.as_ref().ok()).await);
    checks.push(check("disk", disk(config)));
    checks.push(check("state directory", state_file_system(config)));
    checks.extend(certificate(config).map(|finding| check("certificate", finding)));
    checks.extend(egress_proxy(config).map(|finding| check("egress proxy", finding)));
    checks.extend(external_machines(config).map(|finding| check("external machines", finding)));
    let (of_server, is_running) = server(client).await;
    checks.extend(of_server);
    if let Some(finding) = database::check_database(config).await {
        checks.retain(|check| check.name != "database");
        checks.push(check("database", finding));
    }
    drop(wait);
    let missing = checks.iter().filter(|check| matches!(check.finding, Finding::Missing(_))).count();
    if json {
        print_line(serde_json::to_string_pretty(&checks)?);
    } else {
        checks.iter().for_each(print_check);
        if missing > 0 {
            print_line(format_args!("\n{missing} check(s) failed."));
        }
    }
    Ok(match (missing, is_running) {
        (0, true) => ExitCode::SUCCESS,
        (0, false) => ExitCode::from(NOT_RUNNING),
        (_, _) => ExitCode::FAILURE,
    })
}

fn print_check(check: &Check) {
    let (mark, text) = match &check.finding {
        Finding::Ok(text) => ("ok      ".if_supports_color(Stdout, |mark| mark.green()).to_string(), text),
        Finding::Degraded(text) => ("degraded".if_supports_color(Stdout, |mark| mark.yellow()).to_string(), text),
        Finding::Missing(text) => ("MISSING ".if_supports_color(Stdout, |mark| mark.red()).to_string(), text),
        Finding::Unused(text) => ("unused  ".if_supports_color(Stdout, |mark| mark.dimmed()).to_string(), text),
    };
    print_line(format_args!("{mark} {:<21} {text}", check.name));
}

async fn tools(has_image: bool) -> Vec<Check> {
    let mut found = Vec::new();
    match qemu::find_qemu() {
        Some(program) => found.push(check(
            "qemu",
            match qemu::version_line(&program).await {
                Ok(version) => Finding::Ok(version),
                Err(error) => Finding::Missing(format!("{} does not run: {error}", program.display())),
            },
        )),
        None => found.push(check(
            "qemu",
            Finding::Missing("qemu-system-x86_64 is not installed; run: sudo apt-get install qemu-system-x86".into()),
        )),
    }
    let missing = image::find_missing_requirements();
    if has_image && !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|tool| tool.what.as_ref()).collect();
        let text = format!("{} missing; only `anteroom image build` needs them", names.join(", "));
        found.push(check("image tools", Finding::Unused(text)));
        return found;
    }
    if missing.is_empty() {
        found.push(check("image tools", Finding::Ok("all installed".into())));
    }
    for tool in &missing {
        found.push(check(&tool.what, Finding::Missing(format!("needed for {}; {}", tool.why, tool.remedy))));
    }
    if let Some(command) = image::apt_install_command(&missing) {
        found.push(check("install", Finding::Degraded(format!("install all missing packages with: {command}"))));
    }
    found
}

fn providers(config: &Config) -> Finding {
    match Providers::load(config) {
        Ok(providers) => Finding::Ok(providers.comma_separated_ids()),
        Err(errors) => Finding::Missing(errors.join("; ")),
    }
}

/// The server's own certificate; `None`: none is configured.
fn certificate(config: &Config) -> Option<Finding> {
    match TlsCertificate::open(config) {
        Ok(certificate) => certificate.map(|certificate| certificate.report()).map(|report| match report.is_good {
            true => Finding::Ok(report.sentence),
            false => Finding::Degraded(report.sentence),
        }),
        Err(error) => Some(Finding::Missing(chain(&error))),
    }
}

/// The proxy of the egress gate; `None`: none is configured, nor named by the environment.
fn egress_proxy(config: &Config) -> Option<Finding> {
    if let Some(variable) = egress::unused_proxy_variable(config) {
        return Some(Finding::Degraded(format!(
            "{variable} is set, and machines connect without it: set egress.proxy.from_environment or egress.proxy.url"
        )));
    }
    match egress::open_proxy(config) {
        Ok(None) => None,
        Ok(Some(proxy)) => Some(Finding::Ok(format!("{proxy}; `anteroom doctor --network PROVIDER` tries it"))),
        Err(error) => Some(Finding::Missing(format!("{:#}", anyhow::Error::new(error)))),
    }
}

/// The external machines; `None`: none is configured.
fn external_machines(config: &Config) -> Option<Finding> {
    if config.external_machines.is_empty() {
        return None;
    }
    Some(match ExternalMachines::load(&config.external_machines) {
        Ok(machines) => match machines.unencrypted_names() {
            unencrypted if unencrypted.is_empty() => Finding::Ok(machines.comma_separated_names()),
            unencrypted => Finding::Degraded(format!(
                "connections to these desktops are not encrypted: {}; use wss://, vncs:// or vencrypt://",
                unencrypted.join(", ")
            )),
        },
        Err(errors) => Finding::Missing(errors.join("; ")),
    })
}

fn describe_image(image: Result<&Image, String>) -> Finding {
    match image {
        Ok(image) => {
            let tools: Vec<String> =
                image.manifest.clis.iter().map(|(name, version)| format!("{name} {version}")).collect();
            let short = &image.manifest.hash[..12.min(image.manifest.hash.len())];
            Finding::Ok(format!("{short}, with {}", tools.join(", ")))
        }
        Err(error) => Finding::Missing(error),
    }
}

fn disk(config: &Config) -> Finding {
    let existing = config.cache_dir.ancestors().find(|dir| dir.exists());
    match existing.map(rustix::fs::statvfs) {
        Some(Ok(disk)) => {
            let free_mib = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
            let text = format!("{free_mib} MiB free for images and templates");
            if free_mib < 4 * 1024 {
                Finding::Degraded(format!("{text}; an image build needs about 4 GiB"))
            } else {
                Finding::Ok(text)
            }
        }
        Some(Err(error)) => Finding::Missing(format!("{} cannot be read: {error}", config.cache_dir.display())),
        None => Finding::Missing(format!("{} does not exist", config.cache_dir.display())),
    }
}

/// The file system of the state directory.
fn state_file_system(config: &Config) -> Finding {
    let found = match StateFileSystem::of_dir(&config.state_dir) {
        Ok(Some(found)) => found,
        Ok(None) => return Finding::Degraded("its file system is not in /proc/self/mountinfo".to_owned()),
        Err(error) => return Finding::Degraded(format!("its file system is not known: {error}")),
    };
    match (found.fault(), found.kind()) {
        (None, _) => Finding::Ok(format!("on {} ({})", found.type_name, found.mount_point.display())),
        (Some(fault), FileSystemKind::Network) => Finding::Missing(fault),
        (Some(fault), _) => Finding::Degraded(fault),
    }
}

/// The running server, and the OpenID provider that it asks; and whether a server runs.
async fn server(client: &ApiClient) -> (Vec<Check>, bool) {
    match client.get::<Health>("/health").await {
        Ok(health) => {
            let provider = health.checks.iter().find(|check| check.name == "sign_in_provider").map(sign_in_provider);
            let database = health
                .checks
                .iter()
                .find(|check| check.name == "store")
                .map(|store| check("database", database_of_server(store)));
            ([check("server", running(&health))].into_iter().chain(database).chain(provider).collect(), true)
        }
        Err(error @ ClientError::NoServer { .. }) => {
            (vec![check("server", Finding::Degraded(error.to_string()))], false)
        }
        Err(error) => (vec![check("server", Finding::Missing(error.to_string()))], true),
    }
}

/// The kind, version and durability of the server's database.
fn database_of_server(store: &HealthCheck) -> Finding {
    match store.status {
        HealthStatus::Ok => Finding::Ok(store.detail.split(": ").next().unwrap_or_default().to_owned()),
        HealthStatus::Degraded | HealthStatus::Down => Finding::Missing(store.detail.clone()),
    }
}

/// The overall status of a running server.
fn running(health: &Health) -> Finding {
    let problems: Vec<String> = health
        .checks
        .iter()
        .filter(|check| check.status != HealthStatus::Ok)
        .map(|check| format!("{}: {}", check.name, check.detail))
        .collect();
    match health.status {
        HealthStatus::Ok => Finding::Ok(format!("running, version {}", health.version)),
        HealthStatus::Degraded => Finding::Degraded(format!("running; {}", problems.join("; "))),
        HealthStatus::Down => Finding::Missing(format!("running, but {}", problems.join("; "))),
    }
}

/// Also if it works: the detail has the redirect URI, which an operator registers.
fn sign_in_provider(found: &HealthCheck) -> Check {
    let finding = match found.status {
        HealthStatus::Ok => Finding::Ok(found.detail.clone()),
        HealthStatus::Degraded | HealthStatus::Down => Finding::Degraded(found.detail.clone()),
    };
    check("identity provider", finding)
}
