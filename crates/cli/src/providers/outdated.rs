//! `anteroom providers outdated`: compares the releases in the image, in the descriptors and in the npm registry.

use super::super::{machine_environment::images_dir, one_line, print_line, progress::Wait};
use crate::table::Table;
use anteroom_controller::{config::Config, providers::Providers};
use anteroom_machine::image::Image;
use anteroom_wire::{ProviderId, provider::Provider};
use anyhow::Context;
use futures_util::future::join_all;
use semver::Version;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    process::{ExitCode, Stdio},
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// Limit of one question to the registry, seconds.
const NPM_S_MAX: u64 = 60;

/// One tool's releases.
#[derive(Debug, Serialize)]
struct ToolReport {
    provider: ProviderId,
    /// The release in the current image. Absent: the image does not contain the tool, or there is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_version: Option<String>,
    /// The release for which the descriptor was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    tested_version: Option<String>,
    /// The registry's release with the tag `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_version: Option<String>,
    status: ReleaseStatus,
    /// The reason of the status, one sentence; empty for a tool that is current and in the image.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ReleaseStatus {
    /// Image and descriptor have the newest release.
    Current,
    /// The registry has a newer release than the image or the descriptor.
    Outdated,
    /// The image has another release than the one for which the descriptor was written.
    Untested,
    /// The newest release is unknown.
    Unknown,
}

pub(super) async fn run(config: &Config, which: &[ProviderId], json: bool) -> anyhow::Result<ExitCode> {
    let providers = Providers::load(config).map_err(|errors| anyhow::anyhow!(errors.join("\n  ")))?;
    let selected = select(&providers, which)?;
    let clis = Image::open_current(&images_dir(config)).map(|image| image.manifest.clis).unwrap_or_default();
    let wait = Wait::begin("Asking the npm registry…");
    let reports = join_all(selected.into_iter().map(|provider| report(provider, &clis))).await;
    drop(wait);
    if json {
        print_line(serde_json::to_string_pretty(&BTreeMap::from([("providers", &reports)]))?);
    } else {
        print_line(table(&reports));
    }
    let is_current = reports.iter().all(|report| report.status == ReleaseStatus::Current);
    Ok(if is_current { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn select<'a>(providers: &'a Providers, which: &[ProviderId]) -> anyhow::Result<Vec<&'a Provider>> {
    if which.is_empty() {
        return Ok(providers.iter().filter(|provider| provider.npm_package.is_some()).collect());
    }
    let find = |id| {
        let found = providers.get(id);
        found.with_context(|| format!("there is no provider {id}; there are {}", providers.comma_separated_ids()))
    };
    which.iter().map(find).collect()
}

async fn report(provider: &Provider, clis: &BTreeMap<String, String>) -> ToolReport {
    let newest = match &provider.npm_package {
        Some(package) => newest_release(package).await,
        None => Err(format!("the descriptor of {} has no npm_package", provider.id)),
    };
    let image_version = clis.get(&provider.cli).cloned();
    let tested_version = provider.tested_version.clone();
    let (status, detail) = match &newest {
        Ok(newest) => compare(image_version.as_deref(), tested_version.as_deref(), newest),
        Err(reason) => (ReleaseStatus::Unknown, reason.clone()),
    };
    ToolReport {
        provider: provider.id.clone(),
        image_version,
        tested_version,
        newest_version: newest.ok().map(|version| version.to_string()),
        status,
        detail,
    }
}

/// The registry's release with the tag `latest`, asked for with npm: its configuration names the registry.
async fn newest_release(package: &str) -> Result<Version, String> {
    let mut npm = Command::new("npm");
    npm.args(["view", "--json", package, "version"]).stdin(Stdio::null()).kill_on_drop(true);
    let answer = timeout(Duration::from_secs(NPM_S_MAX), npm.output()).await;
    let answer = answer.map_err(|_| format!("npm did not answer within {NPM_S_MAX} s"))?;
    let answer =
        answer.map_err(|error| format!("npm cannot be started: {error}; install it: sudo apt-get install npm"))?;
    if !answer.status.success() {
        let words = String::from_utf8_lossy(&answer.stderr);
        let first = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason");
        return Err(format!("npm view {package}: {}", one_line(first)));
    }
    let version = serde_json::from_slice::<String>(&answer.stdout).map_err(|error| error.to_string());
    let version = version.and_then(|version| Version::parse(&version).map_err(|error| error.to_string()));
    version.map_err(|error| format!("npm view {package} printed no version: {error}"))
}

fn compare(image: Option<&str>, tested: Option<&str>, newest: &Version) -> (ReleaseStatus, String) {
    let is_older = |version: &str| Version::parse(version).is_ok_and(|version| version < *newest);
    if image.is_some_and(is_older) {
        return (
            ReleaseStatus::Outdated,
            "The image has an older release; [[image.extra_clis]] can name another.".to_owned(),
        );
    }
    if tested.is_some_and(is_older) {
        return (ReleaseStatus::Outdated, "The descriptor was written for an older release.".to_owned());
    }
    match (image, tested) {
        (Some(image), Some(tested)) if image != tested => {
            (ReleaseStatus::Untested, format!("The image has {image}, the descriptor was written for {tested}."))
        }
        (None, _) => (ReleaseStatus::Current, "The image does not contain the tool.".to_owned()),
        _ => (ReleaseStatus::Current, String::new()),
    }
}

fn table(reports: &[ToolReport]) -> Table {
    let mut table = Table::new(["provider", "image", "tested", "newest", "status", ""]);
    for report in reports {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "–".to_owned());
        let status = match report.status {
            ReleaseStatus::Current => "current",
            ReleaseStatus::Outdated => "outdated",
            ReleaseStatus::Untested => "untested",
            ReleaseStatus::Unknown => "unknown",
        };
        table.add_row([
            report.provider.to_string(),
            version(&report.image_version),
            version(&report.tested_version),
            version(&report.newest_version),
            status.to_owned(),
            report.detail.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_release_is_compared_with_image_and_descriptor() {
        let newest = Version::new(1, 10, 0);
        for (image, tested, expected) in [
            (Some("1.10.0"), Some("1.10.0"), ReleaseStatus::Current),
            (Some("1.9.0"), Some("1.10.0"), ReleaseStatus::Outdated),
            (Some("1.10.0"), Some("1.9.0"), ReleaseStatus::Outdated),
            (None, Some("1.9.0"), ReleaseStatus::Outdated),
            (None, Some("1.10.0"), ReleaseStatus::Current),
            (Some("1.11.0"), Some("1.10.0"), ReleaseStatus::Untested),
            (Some("1.10.0"), None, ReleaseStatus::Current),
        ] {
            assert_eq!(compare(image, tested, &newest).0, expected, "{image:?} {tested:?}");
        }
    }
}
