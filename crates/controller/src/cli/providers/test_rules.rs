//! `anteroom providers test`: the rules as the machine would try them, on screens that were recorded before.

use super::{
    super::print_line,
    TestArguments,
    check::{as_file, find},
};
use crate::{
    config::Config,
    providers::{DescriptorSource, built_in_fixtures, sources},
    session::credential_format,
};
use anteroom_screen::{
    Fixture, Findings,
    fixture::{RecordedScreen, evaluate},
};
use anteroom_wire::provider::{Key, MethodName, Provider};
use anyhow::{Context, anyhow, ensure};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

const SCREEN_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn run(config: &Config, arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let source = find(&sources(config), &arguments.which);
    let found = source.and_then(|source| source.provider().map(|provider| (source, provider)));
    let (source, provider) = match found {
        Ok(found) => found,
        Err(faults) => {
            faults.iter().for_each(print_line);
            return Ok(ExitCode::FAILURE);
        }
    };
    let chosen = match &arguments.method {
        None => provider.with_method(&provider.method),
        Some(name) => MethodName::try_from(name.clone()).ok().and_then(|name| provider.with_method(&name)),
    };
    let chosen = chosen.ok_or_else(|| {
        let names: Vec<&str> = provider.method_labels().into_iter().map(|(name, _)| name.as_str()).collect();
        anyhow!("{} has no such method; there are these: {}", provider.id, names.join(", "))
    })?;
    let mut good = true;
    if let Some(path) = &arguments.credential {
        good &= credential(&chosen, path)?;
    }
    if !arguments.screen.is_empty() {
        good &= screens(&provider, &chosen, arguments)?;
    }
    if arguments.credential.is_none() && arguments.screen.is_empty() {
        good &= fixtures(config, arguments, &source, &provider)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn credential(provider: &Provider, path: &Path) -> anyhow::Result<bool> {
    let bytes = text(path)?.into_bytes();
    let verdict = credential_format::check(&provider.credential, &bytes);
    match &verdict {
        Ok(()) => print_line(format_args!("{}: counts as a credential of {}", path.display(), provider.name)),
        Err(why) => print_line(format_args!("{}: does not count: {why}", path.display())),
    }
    Ok(verdict.is_ok())
}

/// Fixtures are compared; texts are read one after the other, and what was found is printed.
fn screens(provider: &Provider, chosen: &Provider, arguments: &TestArguments) -> anyhow::Result<bool> {
    let is_fixture = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "screen");
    let (recorded, texts): (Vec<_>, Vec<_>) = arguments.screen.iter().partition(is_fixture);
    let mut good = true;
    for path in recorded {
        good &= compare(provider, &path.display().to_string(), &text(path)?);
    }
    let screens: Vec<RecordedScreen> = texts
        .iter()
        .map(|path| Ok(RecordedScreen::plain(&text(path)?, arguments.width.into())))
        .collect::<anyhow::Result<_>>()?;
    let findings = evaluate(chosen, &screens).map_err(anyhow::Error::msg)?;
    for (path, findings) in texts.iter().zip(findings) {
        print_line(format_args!("{}:", path.display()));
        lines(chosen, &findings).iter().for_each(|line| print_line(format_args!("  {line}")));
    }
    Ok(good)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    ensure!(size <= SCREEN_BYTES_MAX, "{} is larger than {SCREEN_BYTES_MAX} bytes", path.display());
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// What would be found, in words.
fn lines(provider: &Provider, findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(findings.link.iter().map(|link| format!("address, behind a hyperlink: {link}")));
    lines.extend(findings.url.iter().map(|url| format!("address, in the text: {url}")));
    lines.extend(findings.code.iter().map(|code| format!("code: {code}")));
    if let Some(id) = &findings.asks {
        let ask = provider.questions().find(|(rule, _)| rule == id).map(|(_, ask)| ask);
        let (label, secret) = ask.map_or(("", false), |ask| (ask.label.as_str(), ask.secret));
        lines.push(format!("asks {id}: {label}{}", if secret { " (not shown while it is typed)" } else { "" }));
    }
    lines.extend(findings.rejected.iter().map(|why| format!("did not take the last answer: {why}")));
    if !findings.presses.is_empty() {
        lines.push(format!("presses {}", findings.presses.iter().map(|key| word(*key)).collect::<Vec<_>>().join(", ")));
    }
    if findings.done {
        lines.push("says that it is signed in".to_owned());
    }
    lines.extend(findings.failed.iter().map(|why| format!("says that it failed: {why}")));
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines
}

fn word(key: Key) -> String {
    let value = serde_json::to_value(key).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// All recorded screens of a descriptor.
fn fixtures(config: &Config, arguments: &TestArguments, source: &DescriptorSource, provider: &Provider) -> anyhow::Result<bool> {
    let (place, mut fixtures) = recorded(config, arguments, source, provider)?;
    let mut by = String::new();
    if let Some(asked) = &arguments.method {
        by = format!(" by {asked}");
        // One that cannot be read is told, whatever it is by.
        fixtures.retain(|(_, text)| {
            let fixture = toml::from_str::<Fixture>(text).ok();
            fixture.is_none_or(|it| it.method.as_ref().unwrap_or(&provider.method).as_str() == asked)
        });
    }
    if fixtures.is_empty() {
        print_line(format_args!("{}: no recorded screens{by} at {place}; record one, or give --screen FILE", provider.id));
        return Ok(false);
    }
    let all: Vec<bool> = fixtures.iter().map(|(name, text)| compare(provider, name, text)).collect();
    let good = all.iter().filter(|good| **good).count();
    print_line(format_args!("{}: {good} of {} recorded runs{by} are as expected", provider.id, all.len()));
    Ok(good == all.len())
}

/// Where they should be, and those that are there: name and text.
fn recorded(
    config: &Config,
    arguments: &TestArguments,
    source: &DescriptorSource,
    provider: &Provider,
) -> anyhow::Result<(String, Vec<(String, String)>)> {
    let beside = match as_file(&arguments.which) {
        Some(file) => Some(file.parent().unwrap_or(Path::new("")).to_owned()),
        None if source.origin.starts_with("built-in") => None,
        None => config.providers_dir.clone(),
    };
    let Some(dir) = beside.map(|dir| dir.join("fixtures").join(provider.id.as_str())) else {
        return Ok((source.origin.clone(), built_in_fixtures(provider.id.as_str())));
    };
    let entries = std::fs::read_dir(&dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "screen")).collect();
    paths.sort();
    let read = paths.iter().map(|path| Ok((path.display().to_string(), text(path)?)));
    Ok((dir.display().to_string(), read.collect::<anyhow::Result<_>>()?))
}

fn compare(provider: &Provider, name: &str, text: &str) -> bool {
    let fixture = toml::from_str::<Fixture>(text).map_err(|error| error.to_string());
    let differences = match fixture.and_then(|fixture| all_differences(&fixture, provider)) {
        Ok(differences) => differences,
        Err(why) => vec![why],
    };
    if differences.is_empty() {
        print_line(format_args!("{name}: as expected"));
    }
    differences.iter().for_each(|difference| print_line(format_args!("{name}: {difference}")));
    differences.is_empty()
}

/// What the rules find on the screens, and whether the file that the tool wrote would be taken.
fn all_differences(fixture: &Fixture, provider: &Provider) -> Result<Vec<String>, String> {
    let mut all = fixture.differences(provider)?;
    let method = fixture.method.as_ref().unwrap_or(&provider.method);
    if let (Some(file), Some(chosen)) = (&fixture.file, provider.with_method(method)) {
        if !chosen.credential.paths.contains(&file.path) {
            all.push(format!("file: nobody looks for {}", file.path));
        }
        if let Err(why) = credential_format::check(&chosen.credential, file.text.as_bytes()) {
            all.push(format!("file: {} does not count: {why}", file.path));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
