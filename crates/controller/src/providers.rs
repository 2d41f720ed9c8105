//! The providers this server offers: built-in descriptors, changed or extended by the configuration.

mod descriptor_source;
mod view;

pub use descriptor_source::{DescriptorError, DescriptorSource};
pub use view::{methods, provider_view};

use crate::config::Config;
use anteroom_wire::{
    ProviderId,
    provider::{MethodName, Provider},
};
use rust_embed::RustEmbed;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

#[derive(RustEmbed)]
#[folder = "../../providers"]
#[include = "*.toml"]
#[exclude = "examples/*"]
struct BuiltIn;

/// Recorded screens of the released tools: `ID/NAME.screen`.
#[derive(RustEmbed)]
#[folder = "../../providers/fixtures"]
#[include = "*.screen"]
struct Fixtures;

/// All descriptors, by id.
#[derive(Debug, Clone)]
pub struct Providers(BTreeMap<ProviderId, Provider>);

impl Providers {
    /// Built-in descriptors, then `providers_dir`, then `[providers.NAME]` of the configuration.
    ///
    /// # Errors
    /// Every fault of every descriptor, with its place.
    pub fn load(config: &Config) -> Result<Self, Vec<String>> {
        let (mut faults, mut providers) = (Vec::new(), BTreeMap::new());
        for source in sources(config).values() {
            match source.as_ref().map_err(Clone::clone).and_then(Source::provider) {
                Ok(provider) => _ = providers.insert(provider.id.clone(), provider),
                Err(wrong) => faults.extend(wrong),
            }
        }
        if faults.is_empty() { Ok(Self(providers)) } else { Err(faults.iter().map(ToString::to_string).collect()) }
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

    /// The same for using a credential that came by this method, and the method's name.
    pub fn in_use(&self, id: &ProviderId, method: Option<&MethodName>) -> Option<(MethodName, Provider)> {
        let provider = self.get(id)?;
        let found = |method: &MethodName| Some((method.clone(), provider.in_use(method)?));
        method.and_then(found).or_else(|| found(&provider.method))
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

/// All descriptors of a configuration by the names of their files, or why they cannot even be read; a directory that cannot be read stands
/// under its path and a slash.
pub fn sources(config: &Config) -> BTreeMap<String, Result<Source, Vec<Fault>>> {
    let mut sources = BTreeMap::new();
    for file in BuiltIn::iter() {
        if let (Some(name), Some(data)) = (file.strip_suffix(".toml"), BuiltIn::get(&file)) {
            let text = String::from_utf8_lossy(&data.data).into_owned();
            sources.insert(name.to_owned(), Source::parse(name, format!("built-in {file}"), text));
        }
    }
    // A file counts before a built-in one of its name, also one that cannot be read.
    for (path, read) in config.providers_dir.iter().flat_map(|dir| files(dir)) {
        let place = path.display().to_string();
        let is_file = path.extension().is_some_and(|it| it == "toml");
        let name = path
            .file_stem()
            .filter(|_| is_file)
            .map_or_else(|| format!("{place}/"), |it| it.to_string_lossy().into_owned());
        let source = match read {
            Ok(text) => Source::parse(&name, place, text),
            Err(error) => Err(vec![Fault::whole(&place, format!("cannot be read: {error}"))]),
        };
        sources.insert(name, source);
    }
    for (name, change) in &config.providers {
        if let Ok(source) = sources.entry(name.clone()).or_insert_with(|| Ok(Source::configured(name))) {
            source.change(change, name);
        }
    }
    sources
}

/// The descriptors in a directory, and what could be read of them; the directory itself, if it could not.
fn files(dir: &Path) -> Vec<(PathBuf, io::Result<String>)> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![(dir.to_owned(), Err(error))],
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path))).collect()
}

/// The recorded screens of the built-in descriptor of this name: file name and text.
pub fn built_in_fixtures(name: &str) -> Vec<(String, String)> {
    let prefix = format!("{name}/");
    let files = Fixtures::iter().filter(|file| file.starts_with(&prefix));
    files
        .filter_map(|file| Some((file.to_string(), String::from_utf8_lossy(&Fixtures::get(&file)?.data).into_owned())))
        .collect()
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
