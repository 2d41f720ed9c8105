//! Recorded screens: what a release of a tool showed, one after the other, and what a provider's rules are expected to find on each.
//!
//! A file `NAME.screen` is TOML. What is not named is expected not to be there.
//!
//! ```toml
//! version = "0.169.0"           # the release that showed them
//! recorded = "by …, against …"  # how; without it, they were written by hand
//! method = "browser"            # default: the preferred one
//!
//! [[screens]]
//! width = 120                   # columns; default 120
//! text = """
//! Open https://id.example/device and enter
//!   AB12-CD345
//! """
//! links = ["https://id.example/device?full"]   # what hyperlinks (OSC 8) on it lead to
//! at_end = true                 # the cursor stands in the last line: the tool may go on writing there
//! expect.url = "https://id.example/device"     # the whole address
//! expect.link = "https://id.example/device?full"
//! expect.code = "AB12-CD345"
//! expect.asks = "paste_code"    # the question that the person is asked, by its rule
//! expect.refused = "Too short"  # why the tool did not take the last answer
//! expect.presses = ["enter"]    # keys that a rule presses on this screen
//! expect.done = true            # the tool says that it is signed in
//! expect.failed = "Timed out"   # the tool says why it is not
//!
//! [[status]]                    # what the status command printed, both streams
//! exit = 0
//! text = "Logged in"
//! signed_in = true              # what the credential's rules make of it
//!
//! [file]                        # what the tool wrote, keys without their values: it shall count as the credential
//! path = ".codex/auth.json"
//! text = '{ "tokens": { "access_token": "x" } }'
//! ```

mod status;

pub use status::Status;

use crate::{Course, Finder, Look, Rules, Step};
use anteroom_wire::{
    agent::Outcome,
    provider::{Key, MethodName, Provider},
};
use serde::{Deserialize, Serialize};

const WIDTH: usize = 120;

/// Screens of one run of a tool, in order.
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
    /// The screens.
    #[serde(default)]
    pub screens: Vec<Recorded>,
    /// What the status command printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// The credential that the tool wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Kept>,
}

/// A credential file without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Below the home directory.
    pub path: String,
    /// Its keys, each value another.
    pub text: String,
}

/// One screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// What stands on it, lines that the terminal wrapped in one piece.
    pub text: String,
    /// Columns.
    #[serde(default = "width")]
    pub width: usize,
    /// What hyperlinks on it lead to.
    #[serde(default)]
    pub links: Vec<String>,
    /// The cursor stands in the last line.
    #[serde(default)]
    pub at_end: bool,
    /// What is to be found on it.
    #[serde(default)]
    pub expect: Reading,
}

fn width() -> usize {
    WIDTH
}

/// What rules find on a screen, after those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    /// The address in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address behind a hyperlink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The device code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The rule by which the person is asked something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Why the tool did not take the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Keys that are pressed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presses: Vec<Key>,
    /// The tool says that it is signed in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// The tool says why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Recorded {
    /// A screen of which nothing is expected: text as a terminal shows it.
    pub fn plain(text: &str, width: usize) -> Self {
        Self { text: text.to_owned(), width, links: Vec::new(), at_end: true, expect: Reading::default() }
    }

    /// A screen as the terminal was looked at, of which nothing is expected yet.
    pub fn of(look: &Look) -> Self {
        let (text, links) = (look.text(), look.links.clone());
        Self { text, width: look.width, links, at_end: look.cursor_in_text, expect: Reading::default() }
    }

    fn look(&self) -> Look {
        let mut lines: Vec<String> = self.text.lines().map(|line| line.trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Look { lines, links: self.links.clone(), width: self.width, cursor_in_text: self.at_end }
    }
}

/// Reads screens of one run of the tool by the rules of `provider`, the descriptor as it is for a method.
///
/// # Errors
/// A pattern that is none.
pub fn read(provider: &Provider, screens: &[Recorded]) -> Result<Vec<Reading>, String> {
    let (finder, rules) = (Finder::new(&provider.sign_in)?, Rules::new(provider)?);
    let mut course = Course::default();
    let mut open = None;
    let read = |screen: &Recorded| {
        let look = screen.look();
        let found = finder.look(&look);
        let text = |piece: Option<crate::Piece>| piece.map(|piece| piece.text);
        let mut reading =
            Reading { url: text(found.url), link: found.link, code: text(found.code), ..Reading::default() };
        for step in course.look(&rules, &look.text(), true) {
            match step {
                Step::Appeared(_) => {}
                Step::Press { keys, .. } => {
                    course.pressed();
                    reading.presses = keys;
                }
                Step::Open(prompt) | Step::Again(prompt) => {
                    open = Some(prompt.id);
                    reading.refused = prompt.refused;
                }
                Step::Close(_) => open = None,
                Step::Outcome(Outcome::Done) => reading.done = true,
                Step::Outcome(Outcome::Failed { why }) => reading.failed = Some(why),
            }
        }
        reading.asks.clone_from(&open);
        reading
    };
    Ok(screens.iter().map(read).collect())
}

impl Fixture {
    /// Tries the provider's rules; what is other than expected, one sentence each.
    ///
    /// # Errors
    /// A method that the provider does not have, a pattern that is none, or nothing that was recorded.
    pub fn differences(&self, provider: &Provider) -> Result<Vec<String>, String> {
        if self.screens.is_empty() && self.status.is_empty() {
            return Err("nothing is recorded in it".to_owned());
        }
        let method = self.method.as_ref().unwrap_or(&provider.method);
        let chosen = provider.with_method(method).ok_or_else(|| format!("there is no method {method}"))?;
        let readings = read(&chosen, &self.screens)?;
        let compared = self.screens.iter().zip(readings).enumerate();
        let mut all: Vec<String> =
            compared.flat_map(|(at, (screen, found))| screen.expect.differences(&found, at + 1)).collect();
        all.extend(status::differences(&self.status, &chosen.credential)?);
        Ok(all)
    }
}

impl Reading {
    fn differences(&self, found: &Self, screen: usize) -> Vec<String> {
        let shown =
            |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |it| format!("{it:?}"));
        let texts = [
            ("url", &self.url, &found.url),
            ("link", &self.link, &found.link),
            ("code", &self.code, &found.code),
            ("asks", &self.asks, &found.asks),
            ("refused", &self.refused, &found.refused),
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
                { id = "code", matches = 'Code:\s*\z', ask = { label = "The code", refused = "(?m)^Wrong: (.*)$" } },
            ]
            "#,
        )
        .unwrap()
    }

    fn fixture(text: &str) -> Fixture {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_fixture_that_holds_has_no_differences() {
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
            expect = { url = "https://a.example/x", asks = "code", refused = "too short" }
            [[screens]]
            text = "Welcome"
            expect.done = true
        "#;
        assert_eq!(fixture(run).differences(&provider()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named_with_its_screen() {
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
    fn a_fixture_in_which_nothing_is_recorded_shows_nothing() {
        assert!(fixture("version = '1.2.3'").differences(&provider()).unwrap_err().contains("nothing is recorded"));
    }

    #[test]
    fn a_method_that_is_not_there_is_named() {
        let run = "method = 'key'\n[[screens]]\ntext = ''";
        assert!(fixture(run).differences(&provider()).unwrap_err().contains("key"));
        assert!(
            toml::from_str::<Fixture>("[[screens]]\ntext = ''\nexpect.uri = 'x'").is_err(),
            "a typing error is heard of"
        );
    }
}
