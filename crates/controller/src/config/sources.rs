//! From where a configuration is read: a file, then variables of the environment and flags. It is checked once, after all are merged.

use super::{Config, ConfigErrors, table};
use std::{collections::BTreeMap, path::PathBuf};

/// A setting that a flag or a variable of the environment sets.
#[derive(Debug, Clone)]
pub struct Override {
    /// The name of the setting, which is at the top level.
    pub key: &'static str,
    /// Its value.
    pub value: toml::Value,
    /// The flag or the variable.
    pub source: &'static str,
}

/// From where a configuration is read. It can be read again.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The file; `None`: all settings have their defaults.
    pub file: Option<PathBuf>,
    /// What has priority over the file.
    pub overrides: Vec<Override>,
}

/// A setting with its value and where that comes from.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ShownSetting {
    /// The value, without what may be secret; `null`: it is not set.
    pub value: Option<toml::Value>,
    /// `default`, the file, the flag or the variable.
    pub source: String,
}

impl ConfigSources {
    /// Reads and checks the settings, not the files that they name.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(&self) -> Result<Config, ConfigErrors> {
        let (config, errors) = self.merge();
        self.finish(config, errors)
    }

    /// Reads the settings and checks them and, by this function, what they refer to.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read_and_check(&self, file_errors: impl Fn(&Config) -> Vec<String>) -> Result<Config, ConfigErrors> {
        let (config, mut errors) = self.merge();
        if let Some(config) = &config {
            errors.extend(file_errors(config));
        }
        self.finish(config, errors)
    }

    /// The merged settings by their full names.
    ///
    /// # Errors
    /// As [`ConfigSources::read`].
    pub fn show(&self) -> Result<BTreeMap<String, ShownSetting>, ConfigErrors> {
        Ok(self.describe(&self.read()?))
    }

    /// The settings of a configuration that was read from these sources, by their full names.
    pub fn describe(&self, config: &Config) -> BTreeMap<String, ShownSetting> {
        let file = self.file_table().unwrap_or_default();
        let settings = table::flatten(config).into_iter().map(|(name, value)| {
            let over = self.overrides.iter().find(|over| over.key == name);
            let source = match (over, &self.file) {
                (Some(over), _) => over.source.to_owned(),
                (None, Some(path)) if table::has(&file, &name) => path.display().to_string(),
                (None, _) => "default".to_owned(),
            };
            let value = value.map(|value| table::without_secrets(&name, value));
            (name, ShownSetting { value, source })
        });
        settings.collect()
    }

    fn file_table(&self) -> Result<toml::Table, String> {
        let Some(path) = &self.file else { return Ok(toml::Table::new()) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
        text.parse().map_err(|error: toml::de::Error| error.to_string())
    }

    fn merge(&self) -> (Option<Config>, Vec<String>) {
        match self.file_table() {
            Ok(mut table) => {
                for Override { key, value, .. } in &self.overrides {
                    table.insert((*key).to_owned(), value.clone());
                }
                Config::from_table(table)
            }
            Err(error) => (None, vec![error]),
        }
    }

    fn finish(&self, config: Option<Config>, errors: Vec<String>) -> Result<Config, ConfigErrors> {
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            Some(_) | None => Err(ConfigErrors { path: self.file.clone(), errors }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(dir: &tempfile::TempDir, text: &str, overrides: &[(&'static str, &str, &'static str)]) -> ConfigSources {
        let file = dir.path().join("anteroom.toml");
        std::fs::write(&file, text).unwrap();
        let overrides = overrides.iter().map(|&(key, value, source)| Override { key, value: value.into(), source });
        ConfigSources { file: Some(file), overrides: overrides.collect() }
    }

    #[test]
    fn an_open_listener_without_a_public_url_is_refused_from_every_source() {
        let dir = tempfile::tempdir().unwrap();
        for listen in ["[::]:7366", "0.0.0.0:80", "192.0.2.1:80"] {
            let file = sources(&dir, &format!("listen = '{listen}'\n"), &[]).read().unwrap_err();
            let flag = sources(&dir, "", &[("listen", listen, "--listen")]).read().unwrap_err();
            let variable = sources(&dir, "listen = '127.0.0.1:1'", &[("listen", listen, "ANTEROOM_LISTEN")]);
            assert_eq!(file.errors, flag.errors);
            assert_eq!(file.errors, variable.read().unwrap_err().errors);
            assert!(file.errors[0].contains("public_url"), "{file}");
            let public = sources(&dir, "public_url = 'https://a.example'", &[("listen", listen, "--listen")]);
            assert_eq!(public.read().unwrap().listen.to_string(), listen);
        }
    }

    #[test]
    fn settings_are_shown_with_their_sources_and_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "[machines]\ncpus = 3\n[webhook]\nurl = 'https://a.example/in?token=hidden'\nsecret_file = '/etc/hook'\n";
        let sources = sources(&dir, text, &[("listen", "127.0.0.1:1", "ANTEROOM_LISTEN")]);
        let shown = sources.show().unwrap();
        let file = sources.file.unwrap().display().to_string();
        let of = |name: &str| {
            let ShownSetting { value, source } = shown[name].clone();
            (value.map(|value| value.to_string()).unwrap_or_default(), source)
        };
        assert_eq!(of("machines.cpus"), ("3".to_owned(), file.clone()));
        assert_eq!(of("machines.memory_mib"), ("1536".to_owned(), "default".to_owned()));
        assert_eq!(of("listen"), ("\"127.0.0.1:1\"".to_owned(), "ANTEROOM_LISTEN".to_owned()));
        assert_eq!(of("public_url"), (String::new(), "default".to_owned()));
        assert!(!shown.values().any(|setting| format!("{setting:?}").contains("hidden")), "{shown:?}");
        assert_eq!(of("webhook.url"), ("\"https://a.example/in?…\"".to_owned(), file.clone()));
        assert_eq!(of("webhook.secret_file"), ("\"/etc/hook\"".to_owned(), file));
    }
}
