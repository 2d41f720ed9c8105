//! What only operators read of a session: paths, processes, sockets and addresses of the host. Texts of the tool in the machine are the
//! person's own and stay as they are.

use crate::caller::{Action, Caller, Resource, permits};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    TimelineKind,
    diagnosis::{Component, Diagnosis},
};
use regex_lite::Regex;
use serde_json::Value;
use std::{borrow::Cow, sync::LazyLock};

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// An operator, who reads everything.
    Operators,
    /// Persons, helpers, backends and auditors.
    Others,
}

impl Audience {
    /// That of the caller.
    pub fn of(caller: &Caller) -> Self {
        match permits(caller, Action::OperateServer, Resource::Server) {
            Ok(()) => Self::Operators,
            Err(_) => Self::Others,
        }
    }
}

/// What is left out of an entry's data, at any depth.
const KEYS: &[&str] = &["receipt", "address", "pid", "pids"];

/// Addresses, paths of at least two parts (`/websockify` is one of a URL), and processes.
static FACTS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rules = [
        (r#"(^|[\s"'`(=:,])/[A-Za-z0-9._-]+/[^\s"'`(),;]*"#, "$1(a path)"),
        (r"(?i)\b(pid|process|processes) \d+", "$1"),
        (r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b", "(an address)"),
        (r"\[[0-9A-Fa-f:.]{2,}\](:\d+)?|\b[0-9A-Fa-f]{1,4}(:[0-9A-Fa-f]{0,4}){3,7}|::1\b", "(an address)"),
    ];
    rules.into_iter().filter_map(|(rule, with)| Some((Regex::new(rule).ok()?, with))).collect()
});

/// The text without facts of the host.
pub fn without_host_facts(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    for (rule, with) in FACTS.iter() {
        if rule.is_match(&text) {
            text = Cow::Owned(rule.replace_all(&text, *with).into_owned());
        }
    }
    text.into_owned()
}

/// Whether the texts of these entries come from the tool or the agent in the machine, or are about a file in it.
fn is_of_guest(kind: TimelineKind) -> bool {
    matches!(
        kind,
        TimelineKind::CliStarted
            | TimelineKind::CliExited
            | TimelineKind::ToolFailed
            | TimelineKind::ToolSignedIn
            | TimelineKind::CandidateAccepted
            | TimelineKind::CandidateRejected
            | TimelineKind::CredentialKeptInMachine
            | TimelineKind::DeliveryRejected
            | TimelineKind::CredentialCheckInconclusive
            | TimelineKind::ChildExited
            | TimelineKind::BrowserNotOpened
            | TimelineKind::CrashLoop
    )
}

/// Takes what the audience may not read out of an entry.
pub(super) fn hide_in_entry(entry: &mut TimelineRow, audience: Audience) {
    if audience == Audience::Operators {
        return;
    }
    let is_of_guest = is_of_guest(entry.kind);
    hide_in_data(&mut entry.data, is_of_guest);
    if !is_of_guest {
        entry.sentence = without_host_facts(&entry.sentence);
    }
}

fn hide_in_data(data: &mut Value, is_of_guest: bool) {
    match data {
        Value::Object(fields) => {
            fields.retain(|name, _| !KEYS.contains(&name.as_str()));
            fields.values_mut().for_each(|value| hide_in_data(value, is_of_guest));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in_data(value, is_of_guest)),
        Value::String(text) if !is_of_guest => *text = without_host_facts(text),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes what the audience may not read out of a diagnosis.
pub fn hide_in_diagnosis(diagnosis: &mut Diagnosis, audience: Audience) {
    if audience == Audience::Operators {
        return;
    }
    if diagnosis.evidence.iter().any(|entry| !is_of_guest(entry.kind)) || diagnosis.evidence.is_empty() {
        diagnosis.sentence = without_host_facts(&diagnosis.sentence);
    }
    for entry in diagnosis.evidence.iter_mut().filter(|entry| !is_of_guest(entry.kind)) {
        entry.sentence = without_host_facts(&entry.sentence);
    }
    for status in &mut diagnosis.chain {
        if !matches!(status.component, Component::Cli | Component::Credential) {
            status.detail = without_host_facts(&status.detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOST: &[&str] = &["/var/lib", "/run/", "4711", "10.7.0.9", "fe80:", "5901", "/dev/kvm"];

    fn leaked(text: &str) -> Option<&&str> {
        HOST.iter().find(|fact| text.contains(**fact))
    }

    #[test]
    fn every_kind_of_entry_is_without_paths_processes_and_addresses_of_the_host() {
        let facts =
            "qemu (/var/lib/anteroom/run/m1/qmp.sock): pid 4711 at 10.7.0.9:5901, [fe80::1]:5901, path=/dev/kvm";
        for kind in TimelineKind::ALL.iter().copied().filter(|kind| !is_of_guest(*kind)) {
            let mut entry = TimelineRow {
                number: 1,
                at_ms: 1,
                kind,
                sentence: format!("It failed: {facts}."),
                data: json!({
                    "why": { "error": facts }, "list": [facts], "address": "10.7.0.9:5901",
                    "receipt": { "console_tail": facts, "checks": { "pids": [4711] } },
                }),
            };
            hide_in_entry(&mut entry, Audience::Others);
            let all = format!("{} {}", entry.sentence, entry.data);
            assert_eq!(leaked(&all), None, "{kind}: {all}");
            assert!(all.contains("It failed: qemu ((a path))"), "{all}");
        }
    }

    #[test]
    fn receipts_are_left_out_of_every_entry_and_operators_read_everything() {
        for kind in TimelineKind::ALL.iter().copied() {
            let data = json!({ "receipt": { "output_tail": "/run/x" }, "code": 1 });
            let entry = TimelineRow { number: 1, at_ms: 1, kind, sentence: "/run/x".to_owned(), data };
            let (mut of_operator, mut of_others) = (entry.clone(), entry.clone());
            hide_in_entry(&mut of_operator, Audience::Operators);
            hide_in_entry(&mut of_others, Audience::Others);
            assert_eq!((of_operator, of_others.data), (entry, json!({ "code": 1 })), "{kind}");
        }
    }

    #[test]
    fn other_texts_are_unchanged() {
        for text in [
            "The machine reached accounts.google.com:443.",
            "It was ready after 4711 ms, at 2026-11-30T14:06:20Z.",
            "Open https://example.com/a/b?c=d and press Enter (1/2).",
            "Codex 0.125.3 wrote ~/.codex/auth.json.",
        ] {
            assert_eq!(without_host_facts(text), text);
        }
    }
}
