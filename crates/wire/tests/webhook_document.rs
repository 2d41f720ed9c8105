//! The table of docs/webhook.md is generated from the types of messages.

#![allow(clippy::unwrap_used, reason = "tests")]

use anteroom_wire::webhook::{EventType, Presence};

const BEGIN: &str =
    "<!-- Generated from crates/wire/src/webhook.rs; ANTEROOM_WRITE_DOCS=1 rewrites it when its test runs. -->\n";
const END: &str = "<!-- End of the generated table. -->\n";

fn text(presence: Presence) -> &'static str {
    match presence {
        Presence::Present => "yes",
        Presence::Sometimes(when) => when,
        Presence::Null => "`null`",
    }
}

#[test]
fn docs_webhook_table_matches_the_types() {
    let mut table = String::from("\n| `type` | when | `data.session` | `data.credential` |\n|---|---|---|---|\n");
    for kind in EventType::ALL {
        let (session, credential) = (text(kind.session()), text(kind.credential()));
        table += &format!("| `{}` | {} | {session} | {credential} |\n", kind.as_str(), kind.when());
    }
    table.push('\n');
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/webhook.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "run this test with ANTEROOM_WRITE_DOCS=1");
    }
}

#[test]
fn texts_are_those_in_json() {
    for kind in EventType::ALL.iter().copied() {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(EventType::from_text(kind.as_str()), Some(kind));
    }
    assert_eq!(EventType::from_text("session.begun"), None);
}
