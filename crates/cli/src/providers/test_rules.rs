//! `anteroom providers test`: applies a provider's rules to recorded screens, as the machine does.

use super::{
    super::print_line,
    TestArguments,
    check::{as_descriptor_path, find_descriptor},
};
use anteroom_controller::{
    config::Config,
    providers::{DescriptorSource, built_in_fixtures, load_descriptor_sources},
};
use anteroom_screen::{
    Fixture, ScreenFindings,
    fixture::{FixtureError, RecordedScreen, evaluate_screens},
};
use anteroom_wire::{
    chain,
    provider::{Key, MethodName, Provider},
};
use anyhow::{Context, anyhow, ensure};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

const SCREEN_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn run(config: &Config, arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let source = find_descriptor(&load_descriptor_sources(config), &arguments.which);
    let found = source.and_then(|source| source.to_provider().map(|provider| (source, provider)));
    let (source, provider) = match found {
        Ok(found) => found,
        Err(errors) => {
            errors.iter().for_each(print_line);
            return Ok(ExitCode::FAILURE);
        }
    };
    let selected = match &arguments.method {
        None => provider.with_method(&provider.method),
        Some(name) => MethodName::try_from(name.clone()).ok().and_then(|name| provider.with_method(&name)),
    };
    let selected = selected.ok_or_else(|| {
        let names: Vec<&str> = provider.method_labels().into_iter().map(|(name, _)| name.as_str()).collect();
        anyhow!("{} has no such method; its methods are: {}", provider.id, names.join(", "))
    })?;
    let mut passed = true;
    if let Some(path) = &arguments.credential {
        passed &= test_credential(&selected, path)?;
    }
    if !arguments.screen.is_empty() {
        passed &= test_screens(&provider, &selected, arguments)?;
    }
    if arguments.credential.is_none() && arguments.screen.is_empty() {
        passed &= test_fixtures(config, arguments, &source, &provider)?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test_credential(provider: &Provider, path: &Path) -> anyhow::Result<bool> {
    let bytes = read_text(path)?.into_bytes();
    let result = provider.credential.check_format(&bytes);
    match &result {
        Ok(()) => {
            print_line(format_args!("{}: accepted as a credential of {}", path.display(), provider.name));
            print_account(provider, &bytes);
        }
        Err(reason) => print_line(format_args!("{}: not accepted: {reason}", path.display())),
    }
    Ok(result.is_ok())
}

/// Prints the account that the file names by `credential.account`.
fn print_account(provider: &Provider, bytes: &[u8]) {
    match &provider.credential.account {
        None => print_line("  account: not named, the descriptor has no credential.account"),
        Some(source) if source.other_path().is_some() => print_line("  account: in another file of the tool"),
        Some(source) => match source.read_from(bytes) {
            Some(account) => print_line(format_args!("  account: {account}")),
            None => print_line("  account: not found by credential.account"),
        },
    }
}

/// Compares fixtures with their expectations; prints what the rules find on text files. Returns whether all fixtures passed.
fn test_screens(provider: &Provider, selected: &Provider, arguments: &TestArguments) -> anyhow::Result<bool> {
    let is_fixture = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "screen");
    let (fixtures, texts): (Vec<_>, Vec<_>) = arguments.screen.iter().partition(is_fixture);
    let mut passed = true;
    for path in fixtures {
        passed &= test_fixture(provider, &path.display().to_string(), &read_text(path)?);
    }
    let screens: Vec<RecordedScreen> = texts
        .iter()
        .map(|path| Ok(RecordedScreen::from_text(&read_text(path)?, arguments.width.into())))
        .collect::<anyhow::Result<_>>()?;
    let findings = evaluate_screens(selected, &screens)?;
    for (path, findings) in texts.iter().zip(findings) {
        print_line(format_args!("{}:", path.display()));
        describe(selected, &findings).iter().for_each(|line| print_line(format_args!("  {line}")));
    }
    Ok(passed)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("{} cannot be read", path.display());
    let size = std::fs::metadata(path).with_context(unreadable)?.len();
    ensure!(size <= SCREEN_BYTES_MAX, "{} is larger than {SCREEN_BYTES_MAX} bytes", path.display());
    std::fs::read_to_string(path).with_context(unreadable)
}

/// Describes the findings, one line for each.
fn describe(provider: &Provider, findings: &ScreenFindings) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(findings.link.iter().map(|link| format!("URL in a hyperlink: {link}")));
    lines.extend(findings.url.iter().map(|url| format!("URL in the text: {url}")));
    lines.extend(findings.code.iter().map(|code| format!("code: {code}")));
    if let Some(id) = &findings.asks {
        let ask = provider.questions().find(|(rule, _)| rule == id).map(|(_, ask)| ask);
        let (label, secret) = ask.map_or(("", false), |ask| (ask.label.as_str(), ask.secret));
        lines.push(format!("prompt {id}: {label}{}", if secret { " (input is hidden)" } else { "" }));
    }
    lines.extend(findings.rejected.iter().map(|reason| format!("the last answer was rejected: {reason}")));
    if !findings.presses.is_empty() {
        lines.push(format!(
            "keys to press: {}",
            findings.presses.iter().map(|key| key_name(*key)).collect::<Vec<_>>().join(", ")
        ));
    }
    if findings.done {
        lines.push("signed in".to_owned());
    }
    lines.extend(findings.failed.iter().map(|reason| format!("failed: {reason}")));
    if lines.is_empty() {
        lines.push("no findings".to_owned());
    }
    lines
}

/// The JSON name of a key.
fn key_name(key: Key) -> String {
    let value = serde_json::to_value(key).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Tests all recorded screens of a descriptor.
fn test_fixtures(
    config: &Config,
    arguments: &TestArguments,
    source: &DescriptorSource,
    provider: &Provider,
) -> anyhow::Result<bool> {
    let (location, mut fixtures) = load_fixtures(config, arguments, source, provider)?;
    let mut suffix = String::new();
    if let Some(asked) = &arguments.method {
        suffix = format!(" with method {asked}");
        // A fixture that cannot be parsed is kept, so that the fault is reported.
        fixtures.retain(|(_, text)| {
            let fixture = toml::from_str::<Fixture>(text).ok();
            fixture.is_none_or(|it| it.method.as_ref().unwrap_or(&provider.method).as_str() == asked)
        });
    }
    if fixtures.is_empty() {
        print_line(format_args!(
            "{}: no recorded screens{suffix} in {location}; record one, or use --screen FILE",
            provider.id
        ));
        return Ok(false);
    }
    let results: Vec<bool> = fixtures.iter().map(|(name, text)| test_fixture(provider, name, text)).collect();
    let passed = results.iter().filter(|passed| **passed).count();
    print_line(format_args!("{}: {passed} of {} recorded runs{suffix} passed", provider.id, results.len()));
    Ok(passed == results.len())
}

/// The location of the provider's fixtures, and the existing ones as name and text.
fn load_fixtures(
    config: &Config,
    arguments: &TestArguments,
    source: &DescriptorSource,
    provider: &Provider,
) -> anyhow::Result<(String, Vec<(String, String)>)> {
    let descriptor_dir = match as_descriptor_path(&arguments.which) {
        Some(file) => Some(file.parent().unwrap_or(Path::new("")).to_owned()),
        None if source.origin.starts_with("built-in") => None,
        None => config.providers_dir.clone(),
    };
    let Some(dir) = descriptor_dir.map(|dir| dir.join("fixtures").join(provider.id.as_str())) else {
        return Ok((source.origin.clone(), built_in_fixtures(provider.id.as_str())));
    };
    let entries = std::fs::read_dir(&dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "screen")).collect();
    paths.sort();
    let read = paths.iter().map(|path| Ok((path.display().to_string(), read_text(path)?)));
    Ok((dir.display().to_string(), read.collect::<anyhow::Result<_>>()?))
}

fn test_fixture(provider: &Provider, name: &str, text: &str) -> bool {
    let differences = match toml::from_str::<Fixture>(text) {
        Ok(fixture) => all_differences(&fixture, provider).unwrap_or_else(|error| vec![chain(&error)]),
        Err(error) => vec![error.to_string()],
    };
    if differences.is_empty() {
        print_line(format_args!("{name}: passed"));
    }
    differences.iter().for_each(|difference| print_line(format_args!("{name}: {difference}")));
    differences.is_empty()
}

/// Returns the differences between the fixture's expectations and the rules' findings, including the credential file.
fn all_differences(fixture: &Fixture, provider: &Provider) -> Result<Vec<String>, FixtureError> {
    let mut all = fixture.differences(provider)?;
    let method = fixture.method.as_ref().unwrap_or(&provider.method);
    if let (Some(file), Some(selected)) = (&fixture.file, provider.with_method(method)) {
        if !selected.credential.paths.contains(&file.path) {
            all.push(format!("file: {} is not a path of the credential", file.path));
        }
        if let Err(reason) = selected.credential.check_format(file.text.as_bytes()) {
            all.push(format!("file: {} is not accepted: {reason}", file.path));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
