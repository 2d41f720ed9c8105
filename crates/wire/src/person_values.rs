//! The values in the sentences of a session's situation, and the English sentences with them.

use crate::{
    EndReason,
    diagnosis::Verdict,
    situation::{ForPerson, PersonAction, RemoteBrowserState, Situation},
};
use serde::{Deserialize, Serialize};

/// The values in the sentences of a situation: what a page needs to write them in another language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PersonValues {
    /// The name of the tool.
    pub tool: String,
    /// The display name of the session's owner; `null`: [`DEFAULT_OWNER`], who has no name of their own here.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub owner: Option<String>,
    /// The instruction of the sign-in method, in the language of its descriptor.
    pub instruction: String,
    /// The host that could not be reached, is not allowed, or whose page is being opened.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub host: Option<String>,
    /// The position in the queue, 1 is next.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub position: Option<u32>,
    /// The estimated seconds in the queue.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub wait_s: Option<u64>,
    /// The machines that the session has used.
    pub machines: u32,
    /// The seconds after which an unused session ends.
    pub idle_s_max: u64,
    /// The seconds after which a session ends at the latest.
    pub total_s_max: u64,
    /// The code of the reason for which the session ended, or for which its machine is being replaced.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub reason: Option<String>,
    /// The verdict on a sign-in that failed, if it says more than the reason.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub verdict: Option<Verdict>,
}

/// An owner without a name of its own, in a sentence for the person: operators who signed in with a link, and people who start sessions for
/// themselves.
pub const DEFAULT_OWNER: &str = "the person who runs this page";

impl PersonValues {
    /// The part of a session's view for the person.
    pub fn for_person(&self, situation: Situation, actions: Vec<PersonAction>) -> ForPerson {
        ForPerson {
            situation,
            phase: situation.phase(),
            title: self.fill(situation.title()),
            sentence: self.fill(situation.for_person()),
            why: self.verdict.map(|verdict| self.fill(verdict.for_person())),
            values: self.clone(),
            actions,
            other_methods: Vec::new(),
            remote_browser: None,
            if_refused: None,
            since: None,
            usual_s: None,
        }
    }

    /// The state of the remote browser for the person, with a page of this host.
    pub fn remote_browser(&self, situation: Situation, host: &str, actions: Vec<PersonAction>) -> RemoteBrowserState {
        let values = Self { host: Some(host.to_owned()), ..self.clone() };
        let shown = values.for_person(situation, actions);
        RemoteBrowserState {
            situation,
            phase: shown.phase,
            title: shown.title,
            sentence: shown.sentence,
            host: host.to_owned(),
            actions: shown.actions,
            since: None,
            usual_s: None,
        }
    }

    /// The sentence for operators.
    pub fn for_operator(&self, situation: Situation) -> String {
        self.fill(situation.for_operator())
    }

    /// The text of a template with these values.
    fn fill(&self, template: &str) -> String {
        let position = self.position.unwrap_or_default();
        let reason = self.reason.as_deref().and_then(EndReason::from_code);
        let filled = fill_template(
            template,
            &[
                ("tool", &self.tool),
                ("owner", self.owner.as_deref().unwrap_or(DEFAULT_OWNER)),
                ("instruction", &self.instruction),
                ("host", self.host.as_deref().unwrap_or_default()),
                ("position", &position.to_string()),
                ("place", &place(position, self.wait_s)),
                ("machines", &times(self.machines)),
                ("idle_time", &duration(self.idle_s_max)),
                ("total_time", &duration(self.total_s_max)),
                ("reason", reason.map_or("", EndReason::for_person)),
            ],
        );
        filled.trim().to_owned()
    }
}

/// Replaces each `{name}` in a template by its value. A name without a value stays.
fn fill_template(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let value = after
            .split_once('}')
            .and_then(|(name, tail)| values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value, tail)));
        match value {
            Some((value, tail)) => {
                filled.push_str(value);
                rest = tail;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// "You are next. About 1 minute."
fn place(position: u32, wait_s: Option<u64>) -> String {
    let place =
        if position <= 1 { "You are next.".to_owned() } else { format!("You are number {position} in the queue.") };
    match wait_s {
        Some(wait_s) if wait_s < 45 => format!("{place} Less than a minute."),
        Some(wait_s) => format!("{place} About {}.", duration(wait_s.div_ceil(60) * 60)),
        None => place,
    }
}

/// "1 minute", "10 minutes", "1 hour", "45 seconds".
fn duration(seconds: u64) -> String {
    let (number, unit) = match seconds {
        3_600.. if seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
        60.. if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        120.. => (seconds.div_ceil(60), "minute"),
        _ => (seconds, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// "once", "twice", "three times".
fn times(count: u32) -> String {
    match count {
        0 | 1 => "once".into(),
        2 => "twice".into(),
        3 => "three times".into(),
        _ => format!("{count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_values_are_not_templates() {
        let values = [("tool", "{host}"), ("host", "evil")];
        assert_eq!(fill_template("{tool} {none} { {tool", &values), "{host} {none} { {tool");
    }

    #[test]
    fn times_are_written_as_people_say_them() {
        assert_eq!(
            [60, 90, 600, 3_600, 7_200, 1].map(duration),
            ["1 minute", "90 seconds", "10 minutes", "1 hour", "2 hours", "1 second"]
        );
        assert_eq!(place(1, Some(100)), "You are next. About 2 minutes.");
        assert_eq!(place(4, None), "You are number 4 in the queue.");
    }
}
