//! The reference of all keys of a provider's descriptor: `docs/descriptor.md`, generated from the documentation of the Rust types.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{fmt::Write, fs, path::Path};

const SOURCES: [&str; 7] = [
    include_str!("../src/provider.rs"),
    include_str!("../src/provider/egress_group.rs"),
    include_str!("../src/provider/method.rs"),
    include_str!("../src/provider/account_source.rs"),
    include_str!("../src/provider/setting.rs"),
    include_str!("../src/provider/sign_in_host.rs"),
    include_str!("../src/provider/sign_in_rules.rs"),
];

/// The types of a descriptor in the order of the document, with the key at which each is.
const TYPES: [(&str, &str); 23] = [
    ("Provider", "The top level"),
    ("SettingsFile", "`[[settings_files]]`, `[[use_settings_files]]`"),
    ("SignInHost", "`sign_in_hosts`"),
    ("IfRefused", "`[if_refused]`"),
    ("SignInRules", "`[sign_in]`"),
    ("PromptRule", "`[[prompts]]`"),
    ("PromptQuestion", "`[prompts.ask]`"),
    ("KeyEntry", "`[key_entry]`"),
    ("SettingRule", "`[[settings]]`"),
    ("SettingFile", "`[settings.file]`"),
    ("CredentialRules", "`[credential]`"),
    ("AccountSource", "`credential.account`"),
    ("ExpiresAt", "`credential.expires_at`"),
    ("TimeFormat", "Values of `credential.expires_at.unit`"),
    ("EgressRule", "`[[egress]]`"),
    ("MethodOverrides", "`[methods.NAME]`"),
    ("Lane", "Values of `lanes`"),
    ("LinkFrom", "Values of `sign_in.link_from`"),
    ("Key", "Values of `prompts.press`"),
    ("FileFormat", "Values of `credential.format`"),
    ("StoragePolicy", "Values of `policy`"),
    ("LogoutScope", "Values of `logout_scope`"),
    ("EgressGroup", "Values of `egress_groups`"),
];

/// A field of a struct or a variant of an enum.
#[derive(Default)]
struct Item {
    name: String,
    type_name: String,
    doc: String,
    is_optional: bool,
}

struct Type {
    doc: String,
    items: Vec<Item>,
}

/// The type of this name in the sources: its documentation and its public fields or variants.
fn parse(name: &str) -> Type {
    let is_head = |line: &&str| ["struct", "enum"].iter().any(|kind| line.starts_with(&format!("pub {kind} {name} ")));
    let source = SOURCES.iter().find(|source| source.lines().any(|line| is_head(&line)));
    let lines: Vec<&str> = source.unwrap_or_else(|| panic!("{name} is not in the sources")).lines().collect();
    let head = lines.iter().position(is_head).unwrap();
    let is_enum = lines[head].contains(" enum ");
    let before = lines[..head].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let doc: Vec<&str> = before.filter_map(|line| line.strip_prefix("///")).collect();
    let doc = doc.into_iter().rev().collect::<String>();
    let body = lines[head + 1..].iter().take_while(|line| **line != "}");
    let (mut items, mut item) = (Vec::new(), Item::default());
    for line in body {
        // Fields of a variant are described by the variant.
        let Some(text) = line.strip_prefix("    ").filter(|text| !text.starts_with([' ', '}'])) else { continue };
        if let Some(doc) = text.strip_prefix("///") {
            item.doc.push_str(doc);
        } else if text.starts_with("#[") {
            item.is_optional |= text.contains("default");
            if let Some((_, rest)) = text.split_once("rename = \"") {
                item.name = rest.split('"').next().unwrap_or_default().to_owned();
            }
        } else if let Some((field, type_name)) = text.strip_prefix("pub ").and_then(|text| text.split_once(": ")) {
            if item.name.is_empty() {
                item.name = field.to_owned();
            }
            item.type_name = type_name.trim_end_matches(',').to_owned();
            items.push(std::mem::take(&mut item));
        } else if is_enum && text.starts_with(|c: char| c.is_ascii_uppercase()) {
            item.name = snake_case(text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default());
            items.push(std::mem::take(&mut item));
        } else {
            item = Item::default();
        }
    }
    Type { doc, items }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// A Rust type in the words of TOML.
fn toml_type(type_name: &str) -> String {
    let inner = |of: &str| type_name.strip_prefix(of).and_then(|rest| rest.strip_suffix('>')).map(toml_type);
    if let Some(inner) = inner("Option<") {
        return inner;
    }
    if let Some(inner) = inner("Vec<") {
        return format!("list of {inner}");
    }
    if type_name.starts_with("BTreeMap<") {
        return "table".to_owned();
    }
    match type_name {
        "String" | "ProviderId" | "MethodName" | "SignInHost" => "text".to_owned(),
        "bool" => "true or false".to_owned(),
        "u64" | "u16" | "u32" => "number".to_owned(),
        other => match TYPES.iter().find(|(name, _)| *name == other) {
            Some((_, place)) if place.starts_with("Values") => "text, see below".to_owned(),
            _ => "table".to_owned(),
        },
    }
}

/// The documentation for a person who writes descriptors: without what concerns the code alone, and with keys instead of links.
fn for_reader(doc: &str) -> String {
    let sentences = doc.trim().replace(". Not sent to the agent; see [`Provider::for_agent`].", ".");
    let sentences = sentences.replace(" Not sent to the agent; see [`Provider::for_agent`].", "");
    let sentences =
        sentences.replace("; see [`Provider::with_method_for_use`]", "").replace(" Not sent to the agent.", "");
    let mut text = sentences.replace("[`FileFormat::Json`]", "`json`").replace("[`FileFormat::Text`]", "`text`");
    text = text.replace("[`", "`").replace("`]", "`");
    text.replace('|', "\\|")
}

fn document() -> String {
    let mut page = String::from(
        "# Keys of a descriptor\n\n*Generated from `crates/wire/src/provider.rs`: change that and run its tests with `ANTEROOM_WRITE_DOCS=1`.*\n\n\
         A descriptor is a TOML file that describes how a tool signs in ([providers.md](providers.md)). Unknown keys are errors. Regular expressions \
         are those of the crate `regex-lite`; JSON pointers are those of RFC 6901.\n",
    );
    for (name, place) in TYPES {
        let Type { doc, items } = parse(name);
        write!(page, "\n## {place}\n\n{}\n", for_reader(&doc)).unwrap();
        let is_enum = items.iter().all(|item| item.type_name.is_empty());
        if items.is_empty() {
            continue;
        }
        page.push_str(if is_enum {
            "\n| value | meaning |\n|---|---|\n"
        } else {
            "\n| key | type | | meaning |\n|---|---|---|---|\n"
        });
        for item in items {
            let doc = for_reader(&item.doc);
            assert!(!doc.is_empty(), "{name}.{} has no documentation", item.name);
            if is_enum {
                writeln!(page, "| `{}` | {doc} |", item.name).unwrap();
            } else {
                let needed = if item.is_optional { "optional" } else { "required" };
                writeln!(page, "| `{}` | {} | {needed} | {doc} |", item.name, toml_type(&item.type_name)).unwrap();
            }
        }
    }
    page
}

#[test]
fn descriptor_document_matches_the_types() {
    let page = document();
    for key in [
        "`argv`",
        "`never_refreshed`",
        "`logout_scope`",
        "`credential_never_refreshed`",
        "`egress`",
        "`policy`",
        "`keep_in_machine`",
        "`needed_when`",
        "`rfc3339`",
        "`[if_refused]`",
    ] {
        assert!(page.contains(key), "{key}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/descriptor.md");
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let on_disk = fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == page, "docs/descriptor.md differs: run this test with ANTEROOM_WRITE_DOCS=1");
}

/// Each key that the document has is one that a descriptor may have.
#[test]
fn every_documented_key_is_accepted() {
    let keys = |name: &str| parse(name).items.into_iter().map(|item| item.name).collect::<Vec<_>>();
    let provider: anteroom_wire::provider::Provider = toml::from_str(
        "id = \"x\"\nname = \"X\"\ncli = \"x\"\nargv = [\"x\"]\nlanes = [\"terminal\"]\nnext_action = \"Go.\"\npolicy = \"store\"\n\
         egress = []\ncredential = { paths = [\".x\"] }\n",
    )
    .unwrap();
    let error = toml::from_str::<anteroom_wire::provider::Provider>("no_such_key = 1").unwrap_err().to_string();
    for key in keys("Provider") {
        assert!(error.contains(&format!("`{key}`")), "{key} is not in: {error}");
    }
    assert_eq!(provider.cli, "x");
}
