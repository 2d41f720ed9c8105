//! Screens that a released tool shows, recorded for `providers/fixtures/ID/NAME.screen`: the file is what the descriptor's rules are tried
//! on wherever there is no tool. A test that signs in records on its way; then what it saw is compared with the file, or the file is
//! written ([`WRITE`]). So a fixture is never older than the last run against the tool.
//!
//! What differs each time is masked as in [`masked`]; what must not leave this host makes the recording fail.

use super::{NativeCli, Written, masked, screen::WRITE};
use anteroom_screen::{
    Findings, Fixture,
    fixture::{RecordedFile, RecordedScreen, StatusRun, evaluate},
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
    told: String,
    fixture: Fixture,
    replaced: Vec<(String, String)>,
    /// May stand nowhere in the file.
    never: Vec<String>,
}

impl Recording {
    /// Nothing yet, of the tool that `provider` describes (by its method). `told`: what happens in it, one sentence; `recorded`: how.
    pub fn new(provider: &Provider, version: &str, told: &str, recorded: &str) -> Self {
        let fixture = Fixture {
            version: Some(version.to_owned()),
            recorded: Some(recorded.to_owned()),
            method: Some(provider.method.clone()),
            screens: Vec::new(),
            status: Vec::new(),
            file: None,
        };
        let host = fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        let never = [host, env::var("HOME").unwrap_or_default(), env!("CARGO_MANIFEST_DIR").to_owned()];
        // A short name may be a word of the tool's.
        let never = never.into_iter().filter(|text| text.len() >= NAME_BYTES_MIN).collect();
        Self { provider: provider.clone(), told: told.to_owned(), fixture, replaced: Vec::new(), never }
    }

    /// Keeps `instead` of a value that differs each time.
    pub fn replace(&mut self, value: &str, instead: &str) {
        self.replaced.push((value.to_owned(), instead.to_owned()));
    }

    /// Fails if any of these is in what was recorded.
    pub fn never(&mut self, secrets: &[String]) {
        self.never.extend_from_slice(secrets);
    }

    /// Waits until `pattern` stands on the screen and the screen is still, and keeps it.
    ///
    /// # Errors
    /// It is not there in time.
    pub async fn shows(&mut self, tool: &NativeCli, pattern: &str) -> anyhow::Result<String> {
        let screen = tool.shows(pattern).await?;
        self.looks(tool).await?;
        Ok(screen)
    }

    /// Keeps the screen as it is now; `true`: it is another than the last.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn looks(&mut self, tool: &NativeCli) -> anyhow::Result<bool> {
        let seen = RecordedScreen::from_snapshot(&tool.look().await?);
        Ok(self.keep(tool, seen))
    }

    /// Keeps the rows as they are now: a long line in pieces, as a program shows it that breaks its own lines.
    ///
    /// # Errors
    /// The terminal is gone, or it breaks its lines in another way than at the last column.
    pub async fn rows(&mut self, tool: &NativeCli) -> anyhow::Result<()> {
        let whole = RecordedScreen::from_snapshot(&tool.look().await?);
        let rows = tool.rows().await?.join("\n");
        ensure!(broken(&whole.text, whole.width) == rows.trim_end(), "rows of another kind:\n{rows}");
        // What differs each time is found in whole lines alone; it keeps its length.
        let text = broken(&self.masked(&whole.text), whole.width);
        self.keep(tool, RecordedScreen { text, ..whole });
        Ok(())
    }

    fn keep(&mut self, tool: &NativeCli, mut seen: RecordedScreen) -> bool {
        self.never.extend(tool.home().parent().map(|dir| dir.to_string_lossy().into_owned()));
        seen.text = self.masked(&seen.text);
        for link in &mut seen.links {
            *link = masked(link);
        }
        let new = self.fixture.screens.last().is_none_or(|last| *last != seen);
        if new {
            self.fixture.screens.push(seen);
        }
        new
    }

    /// Keeps what the status command printed.
    ///
    /// # Errors
    /// There is none, or its pattern is none.
    pub fn status(&mut self, exit: i32, printed: &str) -> anyhow::Result<()> {
        let printed = self.masked(printed);
        let run = StatusRun::of(exit, printed.trim_end(), &self.provider.credential).map_err(anyhow::Error::msg)?;
        self.fixture.status.push(run);
        Ok(())
    }

    /// Keeps the keys of the credential that the tool wrote, and none of its values.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn file(&mut self, written: &Written) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&hollow(serde_json::from_str(&written.text)?))?;
        self.fixture.file = Some(RecordedFile { path: written.path.clone(), text });
        Ok(())
    }

    fn masked(&self, text: &str) -> String {
        let replaced = self.replaced.iter().fold(text.to_owned(), |text, (value, with)| text.replace(value, with));
        masked(&replaced)
    }

    /// The file's text, with what the rules find on each screen.
    ///
    /// # Errors
    /// Nothing was recorded, it holds what must not leave this host, or a pattern of the descriptor is none.
    pub fn written(&self) -> anyhow::Result<String> {
        ensure!(!(self.fixture.screens.is_empty() && self.fixture.status.is_empty()), "nothing was recorded");
        let mut fixture = self.fixture.clone();
        let findings = evaluate(&self.provider, &fixture.screens).map_err(anyhow::Error::msg)?;
        for (screen, findings) in fixture.screens.iter_mut().zip(findings) {
            screen.expect = findings;
        }
        let text = file(&self.provider, &self.told, &fixture);
        for never in &self.never {
            ensure!(!text.contains(never), "the recording holds what must not leave this host");
        }
        let again: Fixture = toml::from_str(&text).context("the file that was made")?;
        ensure!(same(&again) == same(&fixture), "the file that was made says something else");
        Ok(text)
    }

    /// Writes the file `providers/fixtures/ID/NAME.screen`; its path.
    ///
    /// # Errors
    /// As [`written`](Self::written), or the file cannot be written.
    pub fn write(&self, name: &str) -> anyhow::Result<PathBuf> {
        let (now, path) = (self.written()?, self.path(name));
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, now).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Compares the recording with that file, or writes it when [`WRITE`] is set.
    ///
    /// # Errors
    /// As [`write`](Self::write); there is no such file, or it says something else: the text names both.
    pub fn kept(&self, name: &str) -> anyhow::Result<()> {
        if env::var_os(WRITE).is_some() {
            return self.write(name).map(|_| ());
        }
        let (now, path) = (self.written()?, self.path(name));
        let then = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(now == then, "{} is another run.\nNow:\n{now}\nKept:\n{then}", path.display());
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/fixtures");
        fixtures.join(self.provider.id.as_str()).join(format!("{name}.screen"))
    }
}

/// Shorter names are not looked for.
const NAME_BYTES_MIN: usize = 8;

/// The same shape with one letter for every text, and one number.
fn hollow(value: Value) -> Value {
    match value {
        Value::String(_) => "x".into(),
        Value::Number(_) => 1.into(),
        Value::Array(items) => items.into_iter().map(hollow).collect(),
        Value::Object(keys) => keys.into_iter().map(|(key, value)| (key, hollow(value))).collect(),
        plain @ (Value::Null | Value::Bool(_)) => plain,
    }
}

/// Lines in rows of so many columns.
fn broken(text: &str, width: usize) -> String {
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

/// Without what a file does not tell: blanks at the ends.
fn same(fixture: &Fixture) -> Fixture {
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

/// A fixture as people read it.
fn file(provider: &Provider, told: &str, fixture: &Fixture) -> String {
    let version = fixture.version.as_deref().unwrap_or_default();
    let mut out = format!("# {} {version}: {told}\n", provider.name);
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

fn expected(findings: &Findings) -> String {
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

/// Lines as they stand on the screen, where that can be written.
fn block(text: &str) -> String {
    if text.contains("'''") || text.chars().any(|c| c.is_control() && c != '\n') {
        return quoted(text);
    }
    format!("'''\n{text}\n'''")
}
