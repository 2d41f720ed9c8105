//! Writes the texts of this server for people into a file, with which the translations of the pages are compared.

use super::{consent::request_sentence, view::unexpected_address_sentence};
use crate::{config::Config, providers::Providers};
use anteroom_wire::{
    DEFAULT_OWNER, EndReason, Problem,
    diagnosis::Verdict,
    problem::LINK_USED,
    provider::{Provider, StoragePolicy},
    situation::{GOOGLE_MAY_REFUSE, Situation},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The English texts by their codes; `{name}` is replaced by a value.
fn person_texts() -> Value {
    let situations = Situation::ALL
        .iter()
        .map(|one| (one.code(), json!({ "title": one.title(), "sentence": one.for_person() })))
        .collect::<BTreeMap<_, _>>();
    let problems = Problem::ALL.iter().map(|one| (one.code(), one.for_person())).collect::<BTreeMap<_, _>>();
    let verdicts = Verdict::ALL.iter().map(|one| (one.code(), one.for_person())).collect::<BTreeMap<_, _>>();
    let ends = EndReason::ALL.iter().map(|one| (one.code(), one.for_person())).collect::<BTreeMap<_, _>>();
    json!({
        "situations": situations,
        "problems": problems,
        "ends": ends,
        "verdicts": verdicts,
        "owner": DEFAULT_OWNER,
        "link_used": LINK_USED,
        "policies": by_policy(|policy| policy.for_person("{owner}")),
        "requests": by_policy(|policy| request_sentence(policy, Some("{owner}"), "{tool}", Some("{host}"))),
        "unexpected_address": unexpected_address_sentence("{host}", "{tool}"),
        "descriptors": descriptor_texts(),
    })
}

fn by_policy(text: impl Fn(StoragePolicy) -> String) -> BTreeMap<String, String> {
    let policies =
        [StoragePolicy::Store, StoragePolicy::DeliverOnce, StoragePolicy::KeepInMachine, StoragePolicy::Forbidden];
    let code = |policy: StoragePolicy| serde_json::to_value(policy).unwrap().as_str().unwrap().to_owned();
    policies.into_iter().map(|policy| (code(policy), text(policy))).collect()
}

/// The texts of the built-in descriptors, except names of tools, and what is said about several of them.
fn descriptor_texts() -> BTreeSet<String> {
    let providers = Providers::load(&Config::default()).unwrap();
    let methods = providers.iter().flat_map(|provider| {
        provider.method_labels().into_iter().map(|(name, _)| provider.with_method(name).unwrap()).collect::<Vec<_>>()
    });
    let others = std::iter::once(GOOGLE_MAY_REFUSE.to_owned());
    methods.flat_map(|method| method_texts(&method)).chain(others).filter(|text| !text.is_empty()).collect()
}

fn method_texts(method: &Provider) -> Vec<String> {
    let questions = method.questions().map(|(_, question)| (&question.label, &question.expected_format));
    let keys = method.key_entry.iter().map(|entry| (&entry.label, &entry.expected_format));
    let asked = questions.chain(keys).flat_map(|(label, format)| std::iter::once(label.clone()).chain(format.clone()));
    let settings = method.settings.iter().flat_map(|setting| [setting.label.clone(), setting.expected_format.clone()]);
    let refused = method.if_refused.iter().map(|hint| hint.sentence.clone());
    [method.label.clone(), method.next_action.clone()].into_iter().chain(asked).chain(settings).chain(refused).collect()
}

/// `ANTEROOM_WRITE_DOCS=1` writes the file.
#[test]
fn web_person_texts_json_matches_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/person-texts.json");
    let wanted = serde_json::to_string_pretty(&person_texts()).unwrap() + "\n";
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let present = std::fs::read_to_string(path).unwrap_or_default();
    assert!(present == wanted, "web/person-texts.json differs from the tables; ANTEROOM_WRITE_DOCS=1 writes it");
}
