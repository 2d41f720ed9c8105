//! Records the screens of a released tool as `providers/fixtures/ID/NAME.screen`. The descriptor's rules are tested with these files
//! where the tool is not installed. A test that signs in with the tool compares its recording with the file, or writes the file
//! ([`WRITE_SCREENS_VARIABLE`]), so a fixture is as new as the last run against the tool.
//!
//! Values that differ in each run are masked as in [`mask_screen`]. A recording with a value that must not leave this host is an error.

use super::{CredentialFile, NativeCli, mask_screen, screen::WRITE_SCREENS_VARIABLE};
use anteroom_screen::{
    Fixture, ScreenFindings,
    fixture::{RecordedCredentialFile, RecordedScreen, StatusRun, evaluate_screens},
};
use anteroom_wire::provider::{MethodName, Provider};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// One run of a tool.
#[derive(Debug)]
pub struct Recording {
    provider: Provider,
    description: String,
    fixture: Fixture,
    /// Values that differ in each run, each with its replacement.
    replacements: Vec<(String, String)>,
    /// Texts that the file must not contain.
    forbidden: Vec<String>,
}

impl Recording {
    /// An empty recording of the tool of `provider`, with the provider's method. `description` is one sentence about the run;
    /// `recorded` says how it was recorded.
    pub fn new(provider: &Provider, version: &str, description: &str, recorded: &str) -> Self {
        let fixture = Fixture {
            version: Some(version.to_owned()),
            recorded: Some(recorded.to_owned()),
            method: Some(provider.method.clone()),
            screens: Vec::new(),
            status: Vec::new(),
            file: None,
        };
        let host = fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        let forbidden = [host, env::var("HOME").unwrap_or_default(), env!("CARGO_MANIFEST_DIR").to_owned()];
        // A short host name may be part of the tool's own text.
        let forbidden = forbidden.into_iter().filter(|text| text.len() >= NAME_BYTES_MIN).collect();
        let description = description.to_owned();
        Self { provider: provider.clone(), description, fixture, replacements: Vec::new(), forbidden }
    }

    /// Records `replacement` instead of a value that differs in each run.
    pub fn replace(&mut self, value: &str, replacement: &str) {
        self.replacements.push((value.to_owned(), replacement.to_owned()));
    }

    /// Makes the recording fail if it contains one of these secrets.
    pub fn forbid(&mut self, secrets: &[String]) {
        self.forbidden.extend_from_slice(secrets);
    }

    /// Waits until the screen matches `pattern` and is stable, and records it.
    ///
    /// # Errors
    /// It does not match in time.
    pub async fn record_when(&mut self, tool: &NativeCli, pattern: &str) -> anyhow::Result<String> {
        let screen = tool.wait_for(pattern).await?;
        self.record_screen(tool).await?;
        Ok(screen)
    }

    /// Records the current screen, unless it equals the last one.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn record_screen(&mut self, tool: &NativeCli) -> anyhow::Result<()> {
        let screen = RecordedScreen::from_snapshot(&tool.read_snapshot().await?);
        self.add(tool, screen);
        Ok(())
    }

    /// Records the current rows: a long line is several rows, as in a program that wraps its lines itself.
    ///
    /// # Errors
    /// The terminal has ended, or it does not wrap its lines at the last column.
    pub async fn record_rows(&mut self, tool: &NativeCli) -> anyhow::Result<()> {
        let unwrapped = RecordedScreen::from_snapshot(&tool.read_snapshot().await?);
        let rows = tool.read_rows().await?.join("\n");
        ensure!(
            wrapped(&unwrapped.text, unwrapped.width) == rows.trim_end(),
            "the rows are wrapped differently:\n{rows}"
        );
        // Values that differ in each run are found only in unwrapped lines. Masking keeps their length.
        let text = wrapped(&self.masked(&unwrapped.text), unwrapped.width);
        self.add(tool, RecordedScreen { text, ..unwrapped });
        Ok(())
    }

    fn add(&mut self, tool: &NativeCli, mut screen: RecordedScreen) {
        self.forbidden.extend(tool.home().parent().map(|dir| dir.to_string_lossy().into_owned()));
        screen.text = self.masked(&screen.text);
        for link in &mut screen.links {
            *link = mask_screen(link);
        }
        if self.fixture.screens.last().is_none_or(|last| *last != screen) {
            self.fixture.screens.push(screen);
        }
    }

    /// Records the output of the status command.
    ///
    /// # Errors
    /// The provider has no status command, or its pattern is invalid.
    pub fn record_status(&mut self, exit: i32, printed: &str) -> anyhow::Result<()> {
        let printed = self.masked(printed);
        let run = StatusRun::of(exit, printed.trim_end(), &self.provider.credential)?;
        self.fixture.status.push(run);
        Ok(())
    }

    /// Records the keys of a credential file without its values.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn record_credential(&mut self, file: &CredentialFile) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&without_values(serde_json::from_str(&file.text)?))?;
        self.fixture.file = Some(RecordedCredentialFile { path: file.path.clone(), text });
        Ok(())
    }

    fn masked(&self, text: &str) -> String {
        let replaced = self.replacements.iter().fold(text.to_owned(), |text, (value, with)| text.replace(value, with));
        mask_screen(&replaced)
    }

    /// The file's text, with the findings of the rules for each screen.
    ///
    /// # Errors
    /// Nothing was recorded, the recording contains a text that must not leave this host, or a pattern of the descriptor is invalid.
    pub fn to_text(&self) -> anyhow::Result<String> {
        ensure!(!(self.fixture.screens.is_empty() && self.fixture.status.is_empty()), "nothing was recorded");
        let mut fixture = self.fixture.clone();
        let findings = evaluate_screens(&self.provider, &fixture.screens)?;
        for (screen, findings) in fixture.screens.iter_mut().zip(findings) {
            screen.expect = findings;
        }
        let text = fixture_text(&self.provider, &self.description, &fixture);
        for forbidden in &self.forbidden {
            ensure!(!text.contains(forbidden), "the recording contains a text that must not leave this host");
        }
        let parsed: Fixture = toml::from_str(&text).context("the recorded fixture")?;
        ensure!(normalized(&parsed) == normalized(&fixture), "the fixture's text does not parse to the same fixture");
        Ok(text)
    }

    /// Writes the file `providers/fixtures/ID/NAME.screen` and returns its path.
    ///
    /// # Errors
    /// As [`to_text`](Self::to_text), or the file cannot be written.
    pub fn write(&self, name: &str) -> anyhow::Result<PathBuf> {
        let (text, path) = (self.to_text()?, self.path(name));
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Compares the recording with that file, or writes the file when [`WRITE_SCREENS_VARIABLE`] is set.
    ///
    /// # Errors
    /// As [`write`](Self::write); or there is no such file, or it differs: the text contains both.
    pub fn check(&self, name: &str) -> anyhow::Result<()> {
        if env::var_os(WRITE_SCREENS_VARIABLE).is_some() {
            return self.write(name).map(|_| ());
        }
        let (actual, path) = (self.to_text()?, self.path(name));
        let expected = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(actual == expected, "{} differs.\nActual:\n{actual}\nExpected:\n{expected}", path.display());
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/fixtures");
        fixtures.join(self.provider.id.as_str()).join(format!("{name}.screen"))
    }
}

/// Shorter host names are not searched for.
const NAME_BYTES_MIN: usize = 8;

/// Replaces every text by one letter and every number by 1.
fn without_values(value: Value) -> Value {
    match value {
        Value::String(_) => "x".into(),
        Value::Number(_) => 1.into(),
        Value::Array(items) => items.into_iter().map(without_values).collect(),
        Value::Object(keys) => keys.into_iter().map(|(key, value)| (key, without_values(value))).collect(),
        plain @ (Value::Null | Value::Bool(_)) => plain,
    }
}

/// Wraps lines to rows of `width` columns.
fn wrapped(text: &str, width: usize) -> String {
    let mut rows = Vec::new();
    for line in text.lines() {
        let all: Vec<char> = line.chars().collect();
        let pieces = all.chunks(width.max(1)).map(|piece| piece.iter().collect::<String>().trim_end().to_owned());
        rows.extend(pieces);
        if all.is_empty() {
            rows.push(String::new());
        }
    }
    rows.join("\n").trim_end().to_owned()
}

/// Removes trailing blanks, which a file does not keep.
fn normalized(fixture: &Fixture) -> Fixture {
    let mut fixture = fixture.clone();
    for text in fixture.screens.iter_mut().map(|screen| &mut screen.text) {
        *text = text.trim_end().to_owned();
    }
    for text in fixture.status.iter_mut().map(|run| &mut run.text) {
        *text = text.trim_end().to_owned();
    }
    if let Some(file) = &mut fixture.file {
        file.text = file.text.trim_end().to_owned();
    }
    fixture
}

/// The text of a fixture file.
fn fixture_text(provider: &Provider, description: &str, fixture: &Fixture) -> String {
    let version = fixture.version.as_deref().unwrap_or_default();
    let mut out = format!("# {} {version}: {description}\n", provider.name);
    out += &format!("version = {}\n", quoted(version));
    out += &format!("recorded = {}\n", quoted(fixture.recorded.as_deref().unwrap_or_default()));
    out += &format!("method = {}\n", quoted(fixture.method.as_ref().map_or("", MethodName::as_str)));
    for screen in &fixture.screens {
        out += &format!("\n[[screens]]\nwidth = {}\ntext = {}\n", screen.width, block(&screen.text));
        if !screen.links.is_empty() {
            out += &format!("links = [{}]\n", listed(&screen.links));
        }
        if screen.at_end {
            out += "at_end = true\n";
        }
        out += &expected(&screen.expect);
    }
    for run in &fixture.status {
        out += &format!("\n[[status]]\nexit = {}\ntext = {}\n", run.exit, block(&run.text));
        out += &format!("signed_in = {}\n", run.signed_in);
    }
    if let Some(file) = &fixture.file {
        out += &format!("\n[file]\npath = {}\ntext = {}\n", quoted(&file.path), block(&file.text));
    }
    out
}

fn expected(findings: &ScreenFindings) -> String {
    let texts = [
        ("url", &findings.url),
        ("link", &findings.link),
        ("code", &findings.code),
        ("asks", &findings.asks),
        ("rejected", &findings.rejected),
        ("failed", &findings.failed),
    ];
    let mut out = String::new();
    for (name, text) in texts {
        out.extend(text.iter().map(|text| format!("expect.{name} = {}\n", quoted(text))));
    }
    if !findings.presses.is_empty() {
        let keys: Vec<String> = findings
            .presses
            .iter()
            .filter_map(|key| toml::Value::try_from(key).ok())
            .map(|key| key.to_string())
            .collect();
        out += &format!("expect.presses = [{}]\n", keys.join(", "));
    }
    if findings.done {
        out += "expect.done = true\n";
    }
    out
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn listed(texts: &[String]) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
}

/// A multi-line TOML string, or a quoted one where the text cannot be written as such.
fn block(text: &str) -> String {
    if text.contains("'''") || text.chars().any(|c| c.is_control() && c != '\n') {
        return quoted(text);
    }
    format!("'''\n{text}\n'''")
}
