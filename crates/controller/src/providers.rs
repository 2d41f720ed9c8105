//! The providers of this server: built-in descriptors, with overrides and additions from the configuration.

mod descriptor_source;
mod view;

pub use descriptor_source::{DescriptorError, DescriptorSource};
pub use view::{to_method_views, to_provider_view};

use crate::config::Config;
use anteroom_wire::{
    ProviderId,
    provider::{MethodName, Provider, SignInHost},
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
    /// All errors of all descriptors, each with its file and line.
    pub fn load(config: &Config) -> Result<Self, Vec<String>> {
        let (mut errors, mut providers) = (Vec::new(), BTreeMap::new());
        for source in load_descriptor_sources(config).values() {
            match source.as_ref().map_err(Clone::clone).and_then(DescriptorSource::to_provider) {
                Ok(provider) => _ = providers.insert(provider.id.clone(), provider),
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(Self(providers)) } else { Err(errors.iter().map(ToString::to_string).collect()) }
    }

    /// Adds a host of sign-in pages that is known only when the server runs. Does nothing if there is no such provider.
    pub fn add_sign_in_host(&mut self, id: &ProviderId, host: SignInHost) {
        if let Some(provider) = self.0.get_mut(id) {
            provider.sign_in_hosts.push(host);
        }
    }

    /// One provider.
    pub fn get(&self, id: &ProviderId) -> Option<&Provider> {
        self.0.get(id)
    }

    /// A provider's descriptor for a method. `None`, or a method that no longer exists, selects the preferred method.
    pub fn resolved(&self, id: &ProviderId, method: Option<&MethodName>) -> Option<Provider> {
        let provider = self.get(id)?;
        method.and_then(|method| provider.with_method(method)).or_else(|| provider.with_method(&provider.method))
    }

    /// The descriptor for using a credential that was obtained with this method, and the method's name. Falls back to the
    /// preferred method like [`Self::resolved`].
    pub fn resolved_for_use(&self, id: &ProviderId, method: Option<&MethodName>) -> Option<(MethodName, Provider)> {
        let provider = self.get(id)?;
        let found = |method: &MethodName| Some((method.clone(), provider.with_method_for_use(method)?));
        method.and_then(found).or_else(|| found(&provider.method))
    }

    /// All providers, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.values()
    }

    /// The ids, for messages.
    pub fn comma_separated_ids(&self) -> String {
        self.0.keys().map(ProviderId::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// All descriptors of a configuration by file name, or the errors why a file cannot be parsed. A directory that cannot be read
/// has its path with a slash at the end as the name.
pub fn load_descriptor_sources(config: &Config) -> BTreeMap<String, Result<DescriptorSource, Vec<DescriptorError>>> {
    let mut sources = BTreeMap::new();
    for file in BuiltIn::iter() {
        if let (Some(name), Some(data)) = (file.strip_suffix(".toml"), BuiltIn::get(&file)) {
            let text = String::from_utf8_lossy(&data.data).into_owned();
            sources.insert(name.to_owned(), DescriptorSource::parse_toml(name, format!("built-in {file}"), text));
        }
    }
    // A file replaces the built-in descriptor of the same name, even if the file cannot be read.
    for (path, read) in config.providers_dir.iter().flat_map(|dir| files(dir)) {
        let origin = path.display().to_string();
        let is_file = path.extension().is_some_and(|it| it == "toml");
        let name = path
            .file_stem()
            .filter(|_| is_file)
            .map_or_else(|| format!("{origin}/"), |it| it.to_string_lossy().into_owned());
        let source = match read {
            Ok(text) => DescriptorSource::parse_toml(&name, origin, text),
            Err(error) => Err(vec![DescriptorError::for_file(&origin, format!("cannot be read: {error}"))]),
        };
        sources.insert(name, source);
    }
    for (name, change) in &config.providers {
        if let Ok(source) = sources.entry(name.clone()).or_insert_with(|| Ok(DescriptorSource::from_config(name))) {
            source.apply_override(change, name);
        }
    }
    sources
}

/// The descriptor files of a directory with their text, or the directory itself with the error if it cannot be read.
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

/// The recorded screens of a built-in descriptor: file name and text.
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
    fn built_in_descriptors_are_valid() {
        let providers = Providers::load(&Config::default()).unwrap();
        for name in ["codex", "claude_code", "demo"] {
            assert!(providers.get(&name.parse().unwrap()).is_some(), "{name}");
        }
    }

    #[test]
    fn s20_every_host_of_a_built_in_list_has_a_reason() {
        let providers = Providers::load(&Config::default()).unwrap();
        let without: Vec<_> = providers
            .iter()
            .flat_map(|provider| provider.egress.iter().map(move |rule| (&provider.id, rule)))
            .filter(|(_, rule)| rule.reason.len() < 20 || rule.host.starts_with('*'))
            .map(|(id, rule)| format!("{id}: {}", rule.host))
            .collect();
        assert_eq!(without, Vec::<String>::new(), "each name is complete and has a reason");
    }

    #[test]
    fn r11_built_in_descriptors_have_all_hosts_of_the_accounts_that_their_pages_offer() {
        const MICROSOFT: [&str; 8] = [
            "login.microsoftonline.com",
            "login.live.com",
            "aadcdn.msauth.net",
            "aadcdn.msftauth.net",
            "logincdn.msauth.net",
            "logincdn.msftauth.net",
            "aadcdn.msauthimages.net",
            "aadcdn.msftauthimages.net",
        ];
        let providers = Providers::load(&Config::default()).unwrap();
        for id in ["codex", "claude_code", "github_cli", "copilot_cli"] {
            let provider = providers.get(&id.parse().unwrap()).unwrap();
            for host in MICROSOFT.into_iter().chain(["accounts.google.com", "appleid.apple.com", "idmsa.apple.com"]) {
                assert!(provider.egress.iter().any(|rule| rule.allows(host, 443)), "{id}: {host}");
            }
        }
        for provider in providers.iter() {
            assert_eq!(provider.incomplete_egress_groups(), [], "{}", provider.id);
        }
    }

    #[test]
    fn r11_configuration_takes_the_groups_away() {
        let config = Config::parse("[providers.codex]\negress_groups = []\n").unwrap();
        let codex = Providers::load(&config).unwrap().get(&"codex".parse().unwrap()).unwrap().clone();
        assert!(!codex.egress.iter().any(|rule| rule.host.contains("microsoft") || rule.host.contains("apple")));
    }

    #[test]
    fn configuration_overrides_keys_of_a_descriptor() {
        let config = Config::parse("[providers.codex]\nargv = ['codex', 'login']\n").unwrap();
        let providers = Providers::load(&config).unwrap();
        assert_eq!(providers.get(&"codex".parse().unwrap()).unwrap().argv, ["codex", "login"]);
    }

    #[test]
    fn every_error_names_its_descriptor() {
        let config =
            Config::parse("[providers.codex]\nargv = []\nspeed = 1\n[providers.fresh]\nname = 'Fresh'\n").unwrap();
        let errors = Providers::load(&config).unwrap_err().join("\n");
        assert!(errors.contains("codex") && errors.contains("speed"), "{errors}");
        assert!(errors.contains("[providers.fresh]"), "{errors}");
    }
}
