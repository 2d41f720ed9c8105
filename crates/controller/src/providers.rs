//! The providers this server offers: built-in descriptors, changed or extended by the configuration.

use crate::config::Config;
use anteroom_wire::{
    ProviderId,
    provider::{MethodName, Provider},
};
use rust_embed::RustEmbed;
use std::{collections::BTreeMap, path::Path};

#[derive(RustEmbed)]
#[folder = "../../providers"]
#[include = "*.toml"]
struct BuiltIn;

/// All descriptors, by id.
#[derive(Debug, Clone)]
pub struct Providers(BTreeMap<ProviderId, Provider>);

impl Providers {
    /// Built-in descriptors, then `providers_dir`, then `[providers.NAME]` of the configuration.
    ///
    /// # Errors
    /// Every fault of every descriptor, with its place.
    pub fn load(config: &Config) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut tables = BTreeMap::new();
        for name in BuiltIn::iter() {
            if let Some(file) = BuiltIn::get(&name) {
                take(&format!("built-in {name}"), &String::from_utf8_lossy(&file.data), &mut tables, &mut faults);
            }
        }
        if let Some(dir) = &config.providers_dir {
            read_dir(dir, &mut tables, &mut faults);
        }
        for (name, change) in &config.providers {
            let (place, table) =
                tables.entry(name.clone()).or_insert_with(|| (format!("[providers.{name}]"), toml::Table::new()));
            table.entry("id").or_insert_with(|| toml::Value::String(name.clone()));
            if !place.contains("[providers") {
                *place = format!("{place} with [providers.{name}]");
            }
            merge(table, change);
        }
        let mut providers = BTreeMap::new();
        for (name, (place, table)) in tables {
            match table.try_into::<Provider>() {
                Ok(provider) => {
                    faults.extend(provider.faults().into_iter().map(|fault| format!("{place}: {fault}")));
                    if provider.id.as_str() != name {
                        faults.push(format!("{place}: id {:?} differs from the file's name", provider.id));
                    }
                    providers.insert(provider.id.clone(), provider);
                }
                Err(error) => faults.push(format!("{place}: {}", error.to_string().trim().replace('\n', " "))),
            }
        }
        if faults.is_empty() { Ok(Self(providers)) } else { Err(faults) }
    }

    /// One provider.
    pub fn get(&self, id: &ProviderId) -> Option<&Provider> {
        self.0.get(id)
    }

    /// One provider's descriptor as it is for a method; `None` stands for the preferred one, and so does a method that there is no
    /// more.
    pub fn resolved(&self, id: &ProviderId, method: Option<&MethodName>) -> Option<Provider> {
        let provider = self.get(id)?;
        method.and_then(|method| provider.with_method(method)).or_else(|| provider.with_method(&provider.method))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.values()
    }

    /// The ids, for messages.
    pub fn names(&self) -> String {
        self.0.keys().map(ProviderId::as_str).collect::<Vec<_>>().join(", ")
    }
}

type Tables = BTreeMap<String, (String, toml::Table)>;

fn take(place: &str, text: &str, tables: &mut Tables, faults: &mut Vec<String>) {
    let name =
        Path::new(place.trim_start_matches("built-in ")).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match text.parse::<toml::Table>() {
        Ok(table) => {
            tables.insert(name, (place.to_owned(), table));
        }
        Err(error) => faults.push(format!("{place}: {}", error.to_string().trim().replace('\n', " "))),
    }
}

fn read_dir(dir: &Path, tables: &mut Tables, faults: &mut Vec<String>) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return faults.push(format!("providers_dir {} cannot be read: {error}", dir.display())),
    };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.extension().is_some_and(|extension| extension == "toml") {
            match std::fs::read_to_string(&path) {
                Ok(text) => take(&path.display().to_string(), &text, tables, faults),
                Err(error) => faults.push(format!("{} cannot be read: {error}", path.display())),
            }
        }
    }
}

/// Tables are merged key by key; everything else is replaced whole.
fn merge(into: &mut toml::Table, change: &toml::Table) {
    for (key, value) in change {
        match (into.get_mut(key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(change)) => merge(into, change),
            (Some(_) | None, _) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_descriptors_are_sound() {
        let providers = Providers::load(&Config::default()).unwrap();
        for name in ["codex", "claude_code", "demo"] {
            assert!(providers.get(&name.parse().unwrap()).is_some(), "{name}");
        }
    }

    #[test]
    fn a_part_of_a_descriptor_can_be_changed() {
        let config = Config::parse("[providers.codex]\nargv = ['codex', 'login']\n").unwrap();
        let providers = Providers::load(&config).unwrap();
        assert_eq!(providers.get(&"codex".parse().unwrap()).unwrap().argv, ["codex", "login"]);
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let config =
            Config::parse("[providers.codex]\nargv = []\nspeed = 1\n[providers.fresh]\nname = 'Fresh'\n").unwrap();
        let faults = Providers::load(&config).unwrap_err().join("\n");
        assert!(faults.contains("codex") && faults.contains("speed"), "{faults}");
        assert!(faults.contains("[providers.fresh]"), "{faults}");
    }
}
