//! What the tool asks on its screen, and how it says that its sign-in ended: a provider's rules, tried on the whole screen and never
//! on pieces of output. What they find is only *said* here; the agent carries it out.
//!
//! ```text
//!  a question appears ─▶ press: keys, once ─▶ it goes ─▶ it appears again: once more (up to a bound)
//!                     └▶ ask: told to the person ─▶ the tool refuses the answer: told again with its reason ─▶ it goes: closed
//! ```

use crate::{bounded, finder::masked};
use anteroom_wire::{
    agent::{OpenPrompt, Outcome},
    provider::{Ask, Key, Provider},
};
use regex_lite::Regex;

/// Times that one rule answers in one run of the tool.
const PRESSES_MAX: u32 = 20;

/// A provider's rules, ready to be tried.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    done: Option<Regex>,
    failed: Option<Regex>,
}

/// One of them.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub id: String,
    matches: Regex,
    press: Vec<Key>,
    ask: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    ask: Ask,
    refused: Option<Regex>,
}

impl Rules {
    /// Compiles a provider's rules.
    ///
    /// # Errors
    /// A pattern that is none; says which.
    pub fn new(provider: &Provider) -> Result<Self, String> {
        let compile = |place: &str, pattern: Option<&String>| {
            let compiled = pattern.map(|pattern| Regex::new(pattern)).transpose();
            compiled.map_err(|error| format!("{place} is not a regular expression: {error}"))
        };
        let mut rules = Vec::new();
        for rule in &provider.prompts {
            let place = |part: &str| format!("prompts {:?}: {part}", rule.id);
            let matches = Regex::new(&rule.matches).map_err(|error| format!("{}: {error}", place("matches")))?;
            let ask = match &rule.ask {
                Some(ask) => {
                    Some(Asked { ask: ask.clone(), refused: compile(&place("ask.refused"), ask.refused.as_ref())? })
                }
                None => None,
            };
            rules.push(Rule { id: rule.id.clone(), matches, press: rule.press.clone(), ask });
        }
        let sign_in = &provider.sign_in;
        let done = compile("sign_in.done", sign_in.done.as_ref())?;
        Ok(Self { rules, done, failed: compile("sign_in.failed", sign_in.failed.as_ref())? })
    }

    /// Whether there is nothing to look for.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty() && self.done.is_none() && self.failed.is_none()
    }

    /// Whether the person is asked anything by rule.
    pub fn ask_anything(&self) -> bool {
        self.rules.iter().any(|rule| rule.ask.is_some())
    }

    /// The rule whose question is open on this screen: the first that matches.
    pub fn open(&self, text: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches.is_match(text))
    }
}

impl Rule {
    /// What the person is asked; `None`: the rule answers by itself.
    pub fn ask(&self) -> Option<&Ask> {
        self.ask.as_ref().map(|asked| &asked.ask)
    }

    fn prompt(&self, asked: &Asked, refused: Option<String>) -> OpenPrompt {
        let Ask { label, secret, hint, .. } = asked.ask.clone();
        OpenPrompt { id: self.id.clone(), label, secret, hint, refused }
    }
}

/// What is to be done after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A question that a rule answers came up.
    Appeared(String),
    /// These keys are to be pressed, if the screen is still the same; then say so ([`Course::pressed`]).
    Press {
        /// The rule's name.
        id: String,
        /// In order.
        keys: Vec<Key>,
    },
    /// The person is asked.
    Open(OpenPrompt),
    /// The person is asked again: the tool did not take the answer.
    Again(OpenPrompt),
    /// The person is no longer asked.
    Close(String),
    /// The tool says how its sign-in ended.
    Outcome(Outcome),
}

/// What came up so far in one run of the tool.
#[derive(Debug, Default)]
pub struct Course {
    /// The rule whose question is open.
    open: Option<usize>,
    /// Its keys wait to be pressed.
    press: bool,
    presses: Vec<u32>,
    refusals: Vec<Refusals>,
    done: Sightings,
    failed: Sightings,
}

#[derive(Debug, Default, Clone)]
struct Refusals {
    seen: Sightings,
    /// The question was open before: what stood on the screen then is no refusal.
    asked: bool,
    /// To be told once the question is open again.
    untold: Option<String>,
}

/// How often something stands on the screen, and what the last says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sightings {
    count: usize,
    last: String,
}

impl Sightings {
    /// Looks again. The last one's words and place, if there is a new one: more than before, or another.
    fn again(&mut self, pattern: Option<&Regex>, text: &str) -> Option<(usize, String)> {
        let mut now = Self::default();
        let mut at = 0;
        for found in pattern?.captures_iter(text) {
            now.count += 1;
            if let Some(group) = found.get(1).or_else(|| found.get(0)) {
                (at, now.last) = (group.start(), group.as_str().trim().to_owned());
            }
        }
        let new = now.count > self.count || (now.count > 0 && now.last != self.last);
        let told = new.then(|| (at, bounded(&masked(&now.last))));
        *self = now;
        told
    }
}

impl Course {
    /// What a screen means after those before it. `running`: the tool runs, so that its questions count.
    pub fn look(&mut self, rules: &Rules, text: &str, running: bool) -> Vec<Step> {
        self.presses.resize(rules.rules.len(), 0);
        self.refusals.resize(rules.rules.len(), Refusals::default());
        let mut steps = self.outcomes(rules, text);
        let open = rules.rules.iter().position(|rule| running && rule.matches.is_match(text));
        self.note_refusals(rules, text);
        if open != self.open {
            if let Some(rule) = self.open.and_then(|at| rules.rules.get(at))
                && rule.ask.is_some()
            {
                steps.push(Step::Close(rule.id.clone()));
            }
            self.open = open;
            self.press = false;
            if let Some(at) = open {
                self.appear(rules, at, &mut steps);
            }
        } else if let Some(at) = open
            && let (rule, Some(reason)) = (&rules.rules[at], self.refusals[at].untold.take())
            && let Some(asked) = &rule.ask
        {
            steps.push(Step::Again(rule.prompt(asked, Some(reason))));
        }
        if let Some(at) = open.filter(|_| self.press) {
            let rule = &rules.rules[at];
            steps.push(Step::Press { id: rule.id.clone(), keys: rule.press.clone() });
        }
        steps
    }

    fn appear(&mut self, rules: &Rules, at: usize, steps: &mut Vec<Step>) {
        let rule = &rules.rules[at];
        let Some(asked) = &rule.ask else {
            if self.presses[at] < PRESSES_MAX {
                self.press = true;
                steps.push(Step::Appeared(rule.id.clone()));
            }
            return;
        };
        let refusals = &mut self.refusals[at];
        let reason = refusals.untold.take().filter(|_| refusals.asked);
        refusals.asked = true;
        steps.push(match reason {
            Some(reason) => Step::Again(rule.prompt(asked, Some(reason))),
            None => Step::Open(rule.prompt(asked, None)),
        });
    }

    fn note_refusals(&mut self, rules: &Rules, text: &str) {
        for (rule, refusals) in rules.rules.iter().zip(&mut self.refusals) {
            let pattern = rule.ask.as_ref().and_then(|asked| asked.refused.as_ref());
            if let Some((_, reason)) = refusals.seen.again(pattern, text) {
                refusals.untold = refusals.asked.then_some(reason);
            }
        }
    }

    fn outcomes(&mut self, rules: &Rules, text: &str) -> Vec<Step> {
        let done = self.done.again(rules.done.as_ref(), text).map(|(at, _)| (at, Outcome::Done));
        let failed = self.failed.again(rules.failed.as_ref(), text).map(|(at, why)| (at, Outcome::Failed { why }));
        let mut both: Vec<_> = done.into_iter().chain(failed).collect();
        both.sort_by_key(|(at, _)| *at);
        both.into_iter().map(|(_, outcome)| Step::Outcome(outcome)).collect()
    }

    /// The open rule's keys were pressed.
    pub fn pressed(&mut self) {
        self.press = false;
        if let Some(count) = self.open.and_then(|at| self.presses.get_mut(at)) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
