//! One line of the trail: `{content,"hash":"…","mac":"…"}`.
//!
//! The hash is SHA-256 of the content's bytes as they are in the line, which include the hash of the record before. The MAC is HMAC-SHA256
//! of the hash.

use crate::{
    MacKeys,
    entry::{Actor, Entry, Subject},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Hexadecimal digits of a hash or MAC.
const HASH_CHARS: usize = 64;
/// The hash before the first record.
pub(crate) const FIRST_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What separates content, hash and MAC.
const HASH_KEY: &str = ",\"hash\":\"";
const MAC_KEY: &str = "\",\"mac\":\"";
const END: &str = "\"}";
/// Bytes after the content, without the line's end.
const TAIL_BYTES: usize = HASH_KEY.len() + HASH_CHARS + MAC_KEY.len() + HASH_CHARS + END.len();
/// The label of the MAC of a record; a head has another one.
const MAC_LABEL: &[u8] = b"record\0";

/// A record of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(as = AuditRecord))]
pub struct Record {
    /// Its number: 1 for the first, without gaps.
    pub seq: u64,
    /// When it was written, milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What was done; docs/audit.md lists the actions.
    pub action: String,
    /// `ok`, `attempted`, or the code of the problem.
    pub outcome: String,
    /// Who did it.
    pub actor: Actor,
    /// From where: an IP address, the operator's socket with its user id, or `machine:ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// To what.
    #[serde(flatten)]
    pub subject: Subject,
    /// The id of the request, which its response carries as `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The number of deeds that it reports.
    pub count: u64,
    /// More, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// The number of the key of the MAC.
    pub key: u32,
    /// The hash of the record before it.
    pub prev: String,
    /// SHA-256 of everything before it in the line, in hexadecimal.
    #[serde(default)]
    pub hash: String,
    /// HMAC-SHA256 of the hash, in hexadecimal.
    #[serde(default)]
    pub mac: String,
}

/// The parts of a line whose form is right.
pub(crate) struct Line<'a> {
    /// The content, which the hash covers.
    pub(crate) content: &'a [u8],
    /// The record.
    pub(crate) record: Record,
}

impl Record {
    /// The record as a line with its end, and its hash.
    pub(crate) fn encode(
        entry: Entry,
        (seq, at_ms, prev): (u64, u64, &str),
        keys: &MacKeys,
    ) -> serde_json::Result<(String, String)> {
        let Entry { action, outcome, actor, peer, subject, request, count, details } = entry.clipped();
        let key = keys.newest();
        let (hash, mac) = (String::new(), String::new());
        let action = action.as_str().to_owned();
        let prev = prev.to_owned();
        let record =
            Self { seq, at_ms, action, outcome, actor, peer, subject, request, count, details, key, prev, hash, mac };
        let text = serde_json::to_string(&record)?;
        // The empty hash and MAC are last.
        let content = text.strip_suffix(",\"hash\":\"\",\"mac\":\"\"}").unwrap_or(&text);
        let hash = hash_of(content.as_bytes());
        let mac = keys.sign(key, &[MAC_LABEL, hash.as_bytes()]).unwrap_or_else(|| FIRST_HASH.to_owned());
        Ok((format!("{content}{HASH_KEY}{hash}{MAC_KEY}{mac}{END}\n"), hash))
    }

    /// Whether the MAC belongs to the hash. `None`: its key is not among `keys`.
    pub(crate) fn check_mac(&self, keys: &MacKeys) -> Option<bool> {
        keys.check(self.key, &[MAC_LABEL, self.hash.as_bytes()], &self.mac)
    }

    /// One line of comma-separated values, without the line's end; see [`csv_header`].
    pub fn to_csv(&self) -> String {
        let details = if self.details.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&self.details).unwrap_or_default()
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let values = [
            self.seq.to_string(),
            self.at_ms.to_string(),
            self.action.clone(),
            self.outcome.clone(),
            text(&self.actor.id),
            self.actor.kind.clone(),
            text(&self.actor.role),
            text(&self.actor.name),
            text(&self.peer),
            text(&self.subject.session),
            text(&self.subject.credential),
            text(&self.subject.caller),
            text(&self.subject.user),
            text(&self.request),
            self.count.to_string(),
            details,
            self.hash.clone(),
        ];
        values.map(|value| quote_csv(&value)).join(",")
    }
}

/// The names of the columns of [`Record::to_csv`].
pub fn csv_header() -> &'static str {
    "seq,at_ms,action,outcome,actor,kind,role,name,peer,session,credential,caller,user,request,count,details,hash"
}

/// Quotes a value (RFC 4180). A text that a spreadsheet would calculate as a formula gets an apostrophe: callers choose names and user ids.
fn quote_csv(value: &str) -> String {
    let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let apostrophe = if is_formula { "'" } else { "" };
    if is_formula || value.contains([',', '"', '\n', '\r']) {
        format!("\"{apostrophe}{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

impl<'a> Line<'a> {
    /// Takes a line (without its end) apart. `None`: it has not the form of a record.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let content = line.get(..line.len().checked_sub(TAIL_BYTES)?)?;
        let tail = line.get(content.len()..)?;
        let has_form = tail.starts_with(HASH_KEY.as_bytes())
            && tail.get(HASH_KEY.len() + HASH_CHARS..)?.starts_with(MAC_KEY.as_bytes())
            && tail.ends_with(END.as_bytes());
        let record: Record = has_form.then(|| serde_json::from_slice(line).ok()).flatten()?;
        Some(Self { content, record })
    }

    /// Whether the hash belongs to the content.
    pub(crate) fn has_valid_hash(&self) -> bool {
        hash_of(self.content) == self.record.hash
    }
}

fn hash_of(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    #[test]
    fn line_contains_hash_and_mac_and_any_change_is_noticed() {
        let keys: MacKeys = [(3, [7; 32].into())].into_iter().collect();
        let entry = Entry::new(Action::SessionStart).with_detail("a", "b\n\"c\"");
        let (text, hash) = Record::encode(entry, (5, 1_000, FIRST_HASH), &keys).unwrap();
        let line = text.trim_end().as_bytes();
        let parsed = Line::parse(line).unwrap();
        assert!(parsed.has_valid_hash() && parsed.record.hash == hash && parsed.record.seq == 5);
        assert_eq!(parsed.record.check_mac(&keys), Some(true));
        assert_eq!(parsed.record.check_mac(&MacKeys::default()), None);
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            let accepted = Line::parse(&changed)
                .is_some_and(|line| line.has_valid_hash() && line.record.check_mac(&keys) == Some(true));
            assert!(!accepted, "a change of byte {at} is not noticed");
        }
    }

    #[test]
    fn csv_quotes_separators_and_formulas() {
        assert_eq!(quote_csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quote_csv("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(quote_csv("plain"), "plain");
        assert_eq!(csv_header().split(',').count(), 17);
    }
}
