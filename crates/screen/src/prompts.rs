//! Detects the tool's prompts and the end of its sign-in. A provider's rules are matched against the whole screen, never against
//! parts of the output. This module only returns actions; the agent executes them.
//!
//! ```text
//!  a prompt appears ─▶ press: press keys, once ─▶ it disappears ─▶ it appears again: press again (bounded)
//!                   └▶ ask: ask the user ─▶ the tool rejects the answer: ask again with its reason ─▶ it disappears: close
//! ```

use crate::{PatternError, compile_pattern, sign_in_finder::mask_secrets, truncate_text};
use anteroom_wire::{
    agent::{OpenPrompt, SignInOutcome},
    provider::{Key, PromptQuestion, Provider},
};
use regex_lite::Regex;

/// How often one rule may press its keys in one run of the tool.
const PRESSES_MAX: u32 = 20;

/// A provider's compiled rules.
#[derive(Debug, Default)]
pub struct PromptRules {
    rules: Vec<CompiledPromptRule>,
    done: Option<Regex>,
    failed: Option<Regex>,
}

/// One compiled prompt rule.
#[derive(Debug)]
pub struct CompiledPromptRule {
    /// Its name.
    pub id: String,
    matches: Regex,
    press: Vec<Key>,
    ask: Option<Question>,
}

#[derive(Debug)]
struct Question {
    ask: PromptQuestion,
    rejected: Option<Regex>,
}

impl PromptRules {
    /// Compiles a provider's rules.
    ///
    /// # Errors
    /// A pattern is not a regular expression.
    pub fn new(provider: &Provider) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for rule in &provider.prompts {
            let setting = |key: &str| format!("prompts {:?}: {key}", rule.id);
            let matches =
                Regex::new(&rule.matches).map_err(|source| PatternError { setting: setting("matches"), source })?;
            let ask = match &rule.ask {
                Some(ask) => Some(Question {
                    ask: ask.clone(),
                    rejected: compile_pattern(&setting("ask.rejected"), ask.rejected.as_deref())?,
                }),
                None => None,
            };
            rules.push(CompiledPromptRule { id: rule.id.clone(), matches, press: rule.press.clone(), ask });
        }
        let sign_in = &provider.sign_in;
        let done = compile_pattern("sign_in.done", sign_in.done.as_deref())?;
        Ok(Self { rules, done, failed: compile_pattern("sign_in.failed", sign_in.failed.as_deref())? })
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.done.is_none() && self.failed.is_none()
    }

    /// Whether any rule asks the user something.
    pub fn has_questions(&self) -> bool {
        self.rules.iter().any(|rule| rule.ask.is_some())
    }

    /// The rule whose prompt is open on this screen: the first that matches.
    pub fn first_matching_rule(&self, text: &str) -> Option<&CompiledPromptRule> {
        self.rules.iter().find(|rule| rule.matches.is_match(text))
    }
}

impl CompiledPromptRule {
    /// What the user is asked; `None`: the rule answers automatically.
    pub fn question(&self) -> Option<&PromptQuestion> {
        self.ask.as_ref().map(|question| &question.ask)
    }

    fn prompt(&self, question: &Question, rejection: Option<String>) -> OpenPrompt {
        let PromptQuestion { label, secret, expected_format, .. } = &question.ask;
        OpenPrompt {
            id: self.id.as_str().into(),
            label: label.as_str().into(),
            secret: *secret,
            expected_format: expected_format.as_deref().map(Into::into),
            rejection: rejection.map(Into::into),
        }
    }
}

/// What the agent must do after a screen was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScreenAction {
    /// A prompt that a rule answers appeared.
    ReportPrompt(String),
    /// Press these keys if the screen is still the same, then call [`PromptTracker::pressed`].
    PressKeys {
        /// The rule's name.
        id: String,
        /// The keys, in order.
        keys: Vec<Key>,
    },
    /// Ask the user.
    OpenPrompt(OpenPrompt),
    /// Ask the user again: the tool rejected the answer.
    ReopenPrompt(OpenPrompt),
    /// Close the prompt with this rule's name.
    ClosePrompt(String),
    /// The tool shows how its sign-in ended.
    ReportOutcome(SignInOutcome),
}

/// Tracks the prompts of one run of the tool across screens.
#[derive(Debug, Default)]
pub struct PromptTracker {
    /// The rule whose prompt is open.
    open: Option<usize>,
    /// Its keys have not been pressed yet.
    press: bool,
    presses: Vec<u32>,
    rejections: Vec<Rejections>,
    done: Occurrences,
    failed: Occurrences,
}

#[derive(Debug, Default, Clone)]
struct Rejections {
    seen: Occurrences,
    /// The prompt was open before: a rejection that was on the screen before that does not count.
    asked: bool,
    /// The tool's reason, reported as soon as the prompt is open again.
    unreported: Option<String>,
}

/// How often a pattern matches on the screen, and the text of the last match.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Occurrences {
    count: usize,
    last: String,
}

impl Occurrences {
    /// Counts again. Returns position and text of the last match if there is a new one: more matches than before, or another text.
    fn update(&mut self, pattern: Option<&Regex>, text: &str) -> Option<(usize, String)> {
        let mut now = Self::default();
        let mut at = 0;
        for found in pattern?.captures_iter(text) {
            now.count += 1;
            if let Some(group) = found.get(1).or_else(|| found.get(0)) {
                (at, now.last) = (group.start(), group.as_str().trim().to_owned());
            }
        }
        let new = now.count > self.count || (now.count > 0 && now.last != self.last);
        let found = new.then(|| (at, truncate_text(&mask_secrets(&now.last))));
        *self = now;
        found
    }
}

impl PromptTracker {
    /// The actions that this screen requires, given the screens before it. `running`: the tool runs; without it no prompt counts.
    pub fn observe(&mut self, rules: &PromptRules, text: &str, running: bool) -> Vec<ScreenAction> {
        self.presses.resize(rules.rules.len(), 0);
        self.rejections.resize(rules.rules.len(), Rejections::default());
        let mut steps = self.outcomes(rules, text);
        let open = rules.rules.iter().position(|rule| running && rule.matches.is_match(text));
        self.record_rejections(rules, text);
        if open != self.open {
            if let Some(rule) = self.open.and_then(|at| rules.rules.get(at))
                && rule.ask.is_some()
            {
                steps.push(ScreenAction::ClosePrompt(rule.id.clone()));
            }
            self.open = open;
            self.press = false;
            if let Some(at) = open {
                self.appear(rules, at, &mut steps);
            }
        } else if let Some(at) = open
            && let (rule, Some(reason)) = (&rules.rules[at], self.rejections[at].unreported.take())
            && let Some(question) = &rule.ask
        {
            steps.push(ScreenAction::ReopenPrompt(rule.prompt(question, Some(reason))));
        }
        if let Some(at) = open.filter(|_| self.press) {
            let rule = &rules.rules[at];
            steps.push(ScreenAction::PressKeys { id: rule.id.clone(), keys: rule.press.clone() });
        }
        steps
    }

    fn appear(&mut self, rules: &PromptRules, at: usize, steps: &mut Vec<ScreenAction>) {
        let rule = &rules.rules[at];
        let Some(question) = &rule.ask else {
            if self.presses[at] < PRESSES_MAX {
                self.press = true;
                steps.push(ScreenAction::ReportPrompt(rule.id.clone()));
            }
            return;
        };
        let rejections = &mut self.rejections[at];
        let reason = rejections.unreported.take().filter(|_| rejections.asked);
        rejections.asked = true;
        steps.push(match reason {
            Some(reason) => ScreenAction::ReopenPrompt(rule.prompt(question, Some(reason))),
            None => ScreenAction::OpenPrompt(rule.prompt(question, None)),
        });
    }

    fn record_rejections(&mut self, rules: &PromptRules, text: &str) {
        for (rule, rejections) in rules.rules.iter().zip(&mut self.rejections) {
            let pattern = rule.ask.as_ref().and_then(|question| question.rejected.as_ref());
            if let Some((_, reason)) = rejections.seen.update(pattern, text) {
                rejections.unreported = rejections.asked.then_some(reason);
            }
        }
    }

    fn outcomes(&mut self, rules: &PromptRules, text: &str) -> Vec<ScreenAction> {
        let done = self.done.update(rules.done.as_ref(), text).map(|(at, _)| (at, SignInOutcome::Done));
        let failed = self
            .failed
            .update(rules.failed.as_ref(), text)
            .map(|(at, why)| (at, SignInOutcome::Failed { why: why.into() }));
        let mut both: Vec<_> = done.into_iter().chain(failed).collect();
        both.sort_by_key(|(at, _)| *at);
        both.into_iter().map(|(_, outcome)| ScreenAction::ReportOutcome(outcome)).collect()
    }

    /// Records that the open rule's keys were pressed.
    pub fn record_press(&mut self) {
        self.press = false;
        if let Some(count) = self.open.and_then(|at| self.presses.get_mut(at)) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
