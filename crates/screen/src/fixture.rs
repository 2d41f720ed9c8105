//! Recorded screens of a tool's release, in order, with what a provider's rules are expected to find on each.
//!
//! A file `NAME.screen` is TOML. An expectation that is absent means that nothing must be found.
//!
//! ```toml
//! version = "0.171.0"           # the release that showed them
//! recorded = "by …, against …"  # how; absent: written by hand
//! method = "browser"            # default: the preferred one
//!
//! [[screens]]
//! width = 120                   # columns; default 120
//! text = """
//! Open https://id.example/device and enter
//!   AB12-CD345
//! """
//! above = "Welcome"             # lines above the screen that are not visible any more
//! links = ["https://id.example/device?full"]   # targets of the hyperlinks (OSC 8) on it
//! at_end = true                 # the cursor is in the last line: the tool may still be writing there
//! expect.url = "https://id.example/device"     # the whole address
//! expect.link = "https://id.example/device?full"
//! expect.code = "AB12-CD345"
//! expect.asks = "paste_code"    # the rule by which the user is asked something
//! expect.rejected = "Too short" # why the tool rejected the last answer
//! expect.presses = ["enter"]    # keys that a rule presses on this screen
//! expect.done = true            # the tool shows that it is signed in
//! expect.failed = "Timed out"   # the reason the tool shows for a failed sign-in
//!
//! [[status]]                    # output of the status command, both streams
//! exit = 0
//! text = "Logged in"
//! signed_in = true              # the expected result of the credential's rules
//!
//! [file]                        # the file that the tool wrote, without secret values: must be accepted as the credential
//! path = ".codex/auth.json"
//! text = '{ "tokens": { "access_token": "x" } }'
//! ```

mod status;

pub use status::{StatusRun, StatusRunError};

use crate::{PatternError, PromptRules, PromptTracker, ScreenAction, ScreenSnapshot, SignInFinder, snapshot::plain};
use anteroom_wire::{
    agent::SignInOutcome,
    provider::{Key, MethodName, Provider},
};
use serde::{Deserialize, Serialize};

const WIDTH: usize = 120;

/// A recording of one run of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// The release that showed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How they were recorded; `None`: they were written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// The method by which the tool was started; `None`: the preferred one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodName>,
    /// The screens, in order.
    #[serde(default)]
    pub screens: Vec<RecordedScreen>,
    /// Runs of the status command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusRun>,
    /// The credential that the tool wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<RecordedCredentialFile>,
}

/// A credential file without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedCredentialFile {
    /// Below the home directory.
    pub path: String,
    /// Its content; values are replaced.
    pub text: String,
}

/// One screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedScreen {
    /// Its text; lines that the terminal wrapped are joined.
    pub text: String,
    /// The lines above the screen that are not visible any more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub above: String,
    /// Width in columns.
    #[serde(default = "width")]
    pub width: usize,
    /// The targets of the hyperlinks on it.
    #[serde(default)]
    pub links: Vec<String>,
    /// The cursor is in the last line.
    #[serde(default)]
    pub at_end: bool,
    /// What the rules must find on it.
    #[serde(default)]
    pub expect: ScreenFindings,
}

fn width() -> usize {
    WIDTH
}

/// What the rules find on a screen, given the screens before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScreenFindings {
    /// The address in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address behind a hyperlink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The device code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The rule by which the user is asked something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Why the tool rejected the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The keys that a rule presses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presses: Vec<Key>,
    /// The tool shows that it is signed in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// The reason that the tool shows for a failed sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl RecordedScreen {
    /// A screen without expectations, from text as a terminal shows it.
    pub fn from_text(text: &str, width: usize) -> Self {
        Self { text: text.to_owned(), width, at_end: true, ..Self::default() }
    }

    /// A screen without expectations, from a snapshot of the terminal.
    pub fn from_snapshot(snapshot: &ScreenSnapshot) -> Self {
        let (text, links) = (snapshot.text(), snapshot.links.clone());
        let above = snapshot.above.join("\n");
        Self { text, above, width: snapshot.width, links, at_end: snapshot.cursor_in_text, ..Self::default() }
    }

    fn snapshot(&self) -> ScreenSnapshot {
        let mut links = self.links.clone();
        let mut lines: Vec<String> = self.text.lines().map(|line| plain(line, &mut links)).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let above = self.above.lines().map(|line| plain(line, &mut links)).collect();
        ScreenSnapshot { lines, above, links, width: self.width, cursor_in_text: self.at_end }
    }
}

/// Applies the rules of `provider` to the screens of one run. `provider` is the descriptor of one method
/// ([`Provider::with_method`]).
///
/// # Errors
/// A pattern is not a valid regular expression.
pub fn evaluate_screens(provider: &Provider, screens: &[RecordedScreen]) -> Result<Vec<ScreenFindings>, PatternError> {
    let (finder, rules) = (SignInFinder::new(&provider.sign_in)?, PromptRules::new(provider)?);
    let mut tracker = PromptTracker::default();
    let mut open = None;
    let read = |screen: &RecordedScreen| {
        let snapshot = screen.snapshot();
        let found = finder.find(&snapshot);
        let text = |piece: Option<crate::ScreenMatch>| piece.map(|piece| piece.text);
        let mut findings = ScreenFindings {
            url: text(found.url),
            link: found.hyperlink_url,
            code: text(found.code),
            ..ScreenFindings::default()
        };
        for step in tracker.observe(&rules, &snapshot.text(), true) {
            match step {
                ScreenAction::ReportPrompt(_) => {}
                ScreenAction::PressKeys { keys, .. } => {
                    tracker.record_press();
                    findings.presses = keys;
                }
                ScreenAction::OpenPrompt(prompt) | ScreenAction::ReopenPrompt(prompt) => {
                    open = Some(prompt.id.into());
                    findings.rejected = prompt.rejection.map(Into::into);
                }
                ScreenAction::ClosePrompt(_) => open = None,
                ScreenAction::ReportOutcome(SignInOutcome::Done) => findings.done = true,
                ScreenAction::ReportOutcome(SignInOutcome::Failed { why }) => findings.failed = Some(why.into()),
            }
        }
        findings.asks.clone_from(&open);
        findings
    };
    Ok(screens.iter().map(read).collect())
}

/// Why a fixture cannot be compared with a provider's rules.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// It has no screen and no run of the status command.
    #[error("nothing is recorded in it")]
    Empty,
    /// The provider has no such method.
    #[error("there is no method {0}")]
    NoMethod(MethodName),
    /// A pattern is not a regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A run of the status command cannot be evaluated.
    #[error(transparent)]
    Status(#[from] StatusRunError),
}

impl Fixture {
    /// Applies the provider's rules. Returns one sentence for each difference from what is expected.
    ///
    /// # Errors
    /// [`FixtureError`].
    pub fn differences(&self, provider: &Provider) -> Result<Vec<String>, FixtureError> {
        if self.screens.is_empty() && self.status.is_empty() {
            return Err(FixtureError::Empty);
        }
        let method = self.method.as_ref().unwrap_or(&provider.method);
        let chosen = provider.with_method(method).ok_or_else(|| FixtureError::NoMethod(method.clone()))?;
        let findings = evaluate_screens(&chosen, &self.screens)?;
        let compared = self.screens.iter().zip(findings).enumerate();
        let mut all: Vec<String> =
            compared.flat_map(|(at, (screen, found))| screen.expect.differences(&found, at + 1)).collect();
        all.extend(status::status_differences(&self.status, &chosen.credential)?);
        Ok(all)
    }
}

impl ScreenFindings {
    fn differences(&self, found: &Self, screen: usize) -> Vec<String> {
        let shown =
            |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |it| format!("{it:?}"));
        let texts = [
            ("url", &self.url, &found.url),
            ("link", &self.link, &found.link),
            ("code", &self.code, &found.code),
            ("asks", &self.asks, &found.asks),
            ("rejected", &self.rejected, &found.rejected),
            ("failed", &self.failed, &found.failed),
        ];
        let differ = texts.into_iter().filter(|(_, expected, found)| expected != found);
        let mut all: Vec<String> = differ
            .map(|(name, expected, found)| {
                format!("screen {screen}: {name} should be {} and is {}", shown(expected), shown(found))
            })
            .collect();
        if self.presses != found.presses {
            all.push(format!("screen {screen}: presses should be {:?} and is {:?}", self.presses, found.presses));
        }
        if self.done != found.done {
            all.push(format!("screen {screen}: done should be {} and is {}", self.done, found.done));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        toml::from_str(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x"]
            lanes = ["link"]
            next_action = "Do."
            policy = "store"
            egress = []
            credential = { paths = ["x"], required = ["/x"] }
            sign_in = { url = 'https://\S+', done = "Welcome" }
            prompts = [
                { id = "theme", matches = "Choose a theme", press = ["enter"] },
                { id = "code", matches = 'Code:\s*\z', ask = { label = "The code", rejected = "(?m)^Wrong: (.*)$" } },
            ]
            "#,
        )
        .unwrap()
    }

    fn fixture(text: &str) -> Fixture {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_matching_fixture_has_no_differences() {
        let run = r#"
            [[screens]]
            text = "Choose a theme"
            expect.presses = ["enter"]
            [[screens]]
            text = "Open https://a.example/x\n\nCode: "
            at_end = true
            expect = { url = "https://a.example/x", asks = "code" }
            [[screens]]
            text = "Open https://a.example/x\n\nWrong: too short\nCode:"
            expect = { url = "https://a.example/x", asks = "code", rejected = "too short" }
            [[screens]]
            text = "Welcome"
            expect.done = true
        "#;
        assert_eq!(fixture(run).differences(&provider()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_difference_names_its_screen() {
        let run = r#"
            [[screens]]
            text = "Open https://a.example/x\n\nCode: "
            expect = { code = "AB12", asks = "other", done = true }
        "#;
        let all = fixture(run).differences(&provider()).unwrap().join("\n");
        for part in [
            "screen 1: url should be nothing and is \"https://a.example/x\"",
            "code should be \"AB12\" and is nothing",
            "asks should be \"other\" and is \"code\"",
            "done should be true and is false",
        ] {
            assert!(all.contains(part), "{part} is not among:\n{all}");
        }
    }

    #[test]
    fn an_empty_fixture_is_an_error() {
        assert!(
            fixture("version = '1.2.3'")
                .differences(&provider())
                .unwrap_err()
                .to_string()
                .contains("nothing is recorded")
        );
    }

    #[test]
    fn an_unknown_method_is_named_in_the_error() {
        let run = "method = 'key'\n[[screens]]\ntext = ''";
        assert!(fixture(run).differences(&provider()).unwrap_err().to_string().contains("key"));
        assert!(
            toml::from_str::<Fixture>("[[screens]]\ntext = ''\nexpect.uri = 'x'").is_err(),
            "an unknown key is an error"
        );
    }
}
