//! Settings by their full names (`machines.cpus`).

use super::Config;
use crate::settings::Section;
use std::collections::BTreeMap;
use toml::Value;

/// Every setting with its value, by its full name; `None`: it is not set.
pub(super) fn flatten(config: &Config) -> BTreeMap<String, Option<Value>> {
    let mut settings = BTreeMap::new();
    add(config, "", &mut settings);
    if config.webhook.is_list() {
        settings.retain(|name, _| !name.starts_with("webhook."));
        settings.insert("webhook".to_owned(), Value::try_from(&config.webhook).ok());
    }
    settings
}

fn add(section: &dyn Section, prefix: &str, settings: &mut BTreeMap<String, Option<Value>>) {
    for setting in section.settings() {
        settings.insert(format!("{prefix}{}", setting.name()), setting.value().cloned());
    }
    for below in section.sections() {
        add(below.section, &format!("{prefix}{}.", below.key), settings);
    }
}

/// The names of the settings whose values differ.
pub(super) fn changed_settings(before: &Config, after: &Config) -> Vec<String> {
    let (before, after) = (flatten(before), flatten(after));
    after.into_iter().filter(|(name, value)| before.get(name) != Some(value)).map(|(name, _)| name).collect()
}

/// Whether a table has the setting of this full name.
pub(super) fn has(table: &toml::Table, name: &str) -> bool {
    match name.split_once('.') {
        None => table.contains_key(name),
        Some((section, rest)) => table.get(section).and_then(Value::as_table).is_some_and(|below| has(below, rest)),
    }
}

/// The value without the parts of addresses that may be secret: what follows `?`, and users and passwords.
pub(super) fn without_secrets(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) if name.ends_with("url") => {
            let visible = text.split_once('?').map(|(before, _)| format!("{before}?…"));
            Value::String(visible.unwrap_or(text))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(|value| without_secrets(name, value)).collect()),
        Value::Table(table) => {
            let visible = table.into_iter().map(|(key, value)| {
                let value = without_secrets(&key, value);
                (key, value)
            });
            Value::Table(visible.collect())
        }
        other @ (Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)) => {
            other
        }
    }
}
