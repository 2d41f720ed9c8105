//! What a record is made from.

use crate::Action;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The outcome of a deed that was done.
pub const OK: &str = "ok";

/// Longest name, id or address in a record, characters.
pub const TEXT_CHARS_MAX: usize = 256;
/// Longest detail of a record, characters.
pub const DETAIL_CHARS_MAX: usize = 2_048;

/// Who did it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Actor {
    /// The id of the caller; none for strangers and the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How it was identified: `local`, `token`, `cookie`, `ticket`, `agent`, `server` or `none`.
    pub kind: String,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Actor {
    /// The server, for what nothing but a timer or a rule causes.
    pub fn server() -> Self {
        Self { kind: "server".to_owned(), ..Self::default() }
    }

    /// A peer that did not identify itself.
    pub fn stranger() -> Self {
        Self { kind: "none".to_owned(), ..Self::default() }
    }
}

/// What a deed was done to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Subject {
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The caller, for tokens, logins and links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The user's id, as the backend gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A record before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub action: Action,
    /// [`OK`], `attempted`, or the code of the problem.
    pub outcome: String,
    /// Who did it.
    pub actor: Actor,
    /// From where: an IP address, the operator's socket with its user id, or `machine:ID`; none for the server.
    pub peer: Option<String>,
    /// To what.
    pub subject: Subject,
    /// The id of the request.
    pub request: Option<String>,
    /// The number of deeds that it reports.
    pub count: u64,
    /// More, by name; never a secret or what a person typed.
    pub details: BTreeMap<String, String>,
}

impl Entry {
    /// A deed of the server that was done.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            outcome: OK.to_owned(),
            actor: Actor::server(),
            peer: None,
            subject: Subject::default(),
            request: None,
            count: 1,
            details: BTreeMap::new(),
        }
    }

    /// The same entry with a detail.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }

    /// The same entry with every text within its limit, because callers choose names and user ids.
    #[must_use]
    pub(crate) fn clipped(mut self) -> Self {
        let Subject { session, credential, caller, user } = &mut self.subject;
        let texts = [&mut self.actor.id, &mut self.actor.role, &mut self.actor.name, &mut self.peer, &mut self.request];
        for text in texts.into_iter().chain([session, credential, caller, user]).flatten() {
            clip(text, TEXT_CHARS_MAX);
        }
        clip(&mut self.outcome, TEXT_CHARS_MAX);
        self.details.values_mut().for_each(|detail| clip(detail, DETAIL_CHARS_MAX));
        self
    }
}

fn clip(text: &mut String, chars_max: usize) {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
    }
}
