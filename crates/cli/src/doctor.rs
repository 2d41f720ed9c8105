//! `anteroom doctor`: checks this host and lists every problem.

pub(super) mod leaks;

use super::{
    client::{ApiClient, ClientError},
    machine_environment::{self, images_dir},
    print_line,
};
use anteroom_controller::{config::Config, providers::Providers};
use anteroom_machine::{
    image::{self, Image},
    qemu::{self, KvmStatus},
};
use anteroom_wire::api::{Health, HealthStatus};
use owo_colors::{OwoColorize, Stream::Stdout};
use std::process::ExitCode;

/// The result of one check.
enum Finding {
    Ok(String),
    /// Works, but not as it should.
    Degraded(String),
    Missing(String),
}

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut missing = 0;
    let mut print_finding = |name: &str, finding: Finding| {
        let (mark, text) = match &finding {
            Finding::Ok(text) => ("ok      ".if_supports_color(Stdout, |mark| mark.green()).to_string(), text),
            Finding::Degraded(text) => ("degraded".if_supports_color(Stdout, |mark| mark.yellow()).to_string(), text),
            Finding::Missing(text) => {
                missing += 1;
                ("MISSING ".if_supports_color(Stdout, |mark| mark.red()).to_string(), text)
            }
        };
        print_line(format_args!("{mark} {name:<12} {text}"));
    };
    for (name, finding) in tools().await {
        print_finding(&name, finding);
    }
    print_finding("providers", providers(config));
    for (name, finding) in machines(config).await {
        print_finding(&name, finding);
    }
    print_finding("disk", disk(config));
    print_finding("server", server(config).await);
    if missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!("\n{missing} check(s) failed."));
    Ok(ExitCode::FAILURE)
}

async fn tools() -> Vec<(String, Finding)> {
    let mut found = Vec::new();
    match qemu::find_qemu() {
        Some(program) => found.push((
            "qemu".into(),
            match qemu::version_line(&program).await {
                Ok(version) => Finding::Ok(version),
                Err(error) => Finding::Missing(format!("{} does not run: {error}", program.display())),
            },
        )),
        None => found.push((
            "qemu".into(),
            Finding::Missing("qemu-system-x86_64 is not installed; run: sudo apt-get install qemu-system-x86".into()),
        )),
    }
    let missing = image::find_missing_requirements();
    if missing.is_empty() {
        found.push(("image tools".into(), Finding::Ok("all installed".into())));
    }
    for tool in &missing {
        found.push((tool.what.clone(), Finding::Missing(format!("needed for {}; {}", tool.why, tool.remedy))));
    }
    if let Some(command) = image::apt_install_command(&missing) {
        found.push(("install".into(), Finding::Degraded(format!("install all missing packages with: {command}"))));
    }
    found
}

fn providers(config: &Config) -> Finding {
    match Providers::load(config) {
        Ok(providers) => Finding::Ok(providers.comma_separated_ids()),
        Err(errors) => Finding::Missing(errors.join("; ")),
    }
}

async fn machines(config: &Config) -> Vec<(String, Finding)> {
    let image = match Image::open_current(&images_dir(config)) {
        Ok(image) => image,
        Err(error) => {
            let kvm = if std::path::Path::new("/dev/kvm").exists() {
                "/dev/kvm exists; whether a guest boots on it can be checked once there is an image"
            } else {
                "there is no /dev/kvm; machines will run under emulation"
            };
            return vec![
                ("image".into(), Finding::Missing(error.to_string())),
                ("accelerator".into(), Finding::Degraded(kvm.into())),
            ];
        }
    };
    let tools: Vec<String> = image.manifest.clis.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let short = &image.manifest.hash[..12.min(image.manifest.hash.len())];
    let mut found = vec![("image".into(), Finding::Ok(format!("{short}, with {}", tools.join(", "))))];
    found.push((
        "accelerator".into(),
        match machine_environment::probe_accelerator(config, &image).await {
            Ok(report) => match report.kvm {
                KvmStatus::Works => Finding::Ok(report.explanation),
                KvmStatus::Absent | KvmStatus::NotPermitted | KvmStatus::DoesNotBoot { .. } => {
                    Finding::Degraded(report.explanation)
                }
            },
            Err(error) => Finding::Missing(format!("{error:#}")),
        },
    ));
    found
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

async fn server(config: &Config) -> Finding {
    match ApiClient::new(&config.state_dir).get::<Health>("/health").await {
        Ok(health) => {
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
        Err(error @ ClientError::NoServer { .. }) => Finding::Degraded(error.to_string()),
        Err(error @ (ClientError::Api(_) | ClientError::InvalidResponse(_))) => Finding::Missing(error.to_string()),
    }
}
