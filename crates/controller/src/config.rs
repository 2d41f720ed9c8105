//! The configuration: one TOML file. Every limit is a setting with its unit in its name. All errors are reported at once.

mod connections;
mod credentials;
mod image;
mod log;
mod machines;
mod retention;
mod sessions;

pub use credentials::Credentials;
pub use image::ImageAdditions;
pub use log::{Log, LogFormat};
pub use machines::{Accelerator, Machines};
pub use retention::Retention;
pub use sessions::Sessions;

use crate::{external::ExternalMachines, webhook::settings::WebhookSettings};
use anteroom_egress::{GateSettings, HostOverrides};
use anteroom_tunnel::TunnelSettings;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The socket's name below the state directory.
pub const SOCKET_NAME: &str = "anteroom.sock";

/// The whole configuration. Every key has a default; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The address that the server listens on. With port 0 the system chooses a free port.
    pub listen: SocketAddr,
    /// The external address if it is not `http://<listen>`: `https://anteroom.example`. It is used in printed links. If it is
    /// https, cookies are `Secure`.
    pub public_url: Option<String>,
    /// Database, key file, machines' run directories, receipts. Default: `$XDG_STATE_HOME/anteroom`.
    pub state_dir: PathBuf,
    /// Images and templates, which can be rebuilt. Default: `$XDG_CACHE_HOME/anteroom`.
    pub cache_dir: PathBuf,
    /// A directory of provider descriptors (`NAME.toml`) that add to or replace the built-in ones.
    pub providers_dir: Option<PathBuf>,
    /// Overrides of provider descriptors: `[providers.codex]` with any keys of a descriptor.
    pub providers: BTreeMap<String, toml::Table>,
    /// Additional tools in the machines' image.
    pub image: ImageAdditions,
    /// Machines.
    pub machines: Machines,
    /// Sessions.
    pub sessions: Sessions,
    /// Stored credentials.
    pub credentials: Credentials,
    /// HTTP.
    pub http: Http,
    /// WebSockets to desktops and terminals.
    pub tunnel: TunnelSettings,
    /// The database.
    pub store: Store,
    /// Outbound connections of machines.
    pub egress: Egress,
    /// Logs.
    pub log: Log,
    /// Existing desktops that sessions can use: `[external_machines.NAME]`, see [`crate::external`].
    pub external_machines: BTreeMap<String, toml::Value>,
    /// Retention of machine receipts and support bundles.
    pub retention: Retention,
    /// Webhook messages about sessions and credentials.
    pub webhook: WebhookSettings,
}

/// HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Largest request body except for deliveries, bytes.
    pub body_bytes_max: usize,
    /// Largest request body of a delivery, bytes.
    pub delivery_bytes_max: usize,
    /// How long a graceful stop waits for open connections, milliseconds.
    pub drain_ms_max: u64,
}

/// Outbound connections of machines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Egress {
    /// `"name:port" = "address:port"`: addresses that are used instead of resolving the name. The provider's egress list must
    /// still grant the name.
    pub overrides: BTreeMap<String, SocketAddr>,
    /// The gate's limits.
    pub limits: GateSettings,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// How long a call waits for a locked database before it fails, milliseconds.
    pub busy_ms_max: u64,
    /// A write that takes longer is logged and counted, milliseconds.
    pub slow_write_ms: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { busy_ms_max: 5_000, slow_write_ms: 1_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7060)),
            public_url: None,
            state_dir: base_dir("XDG_STATE_HOME", ".local/state"),
            cache_dir: base_dir("XDG_CACHE_HOME", ".cache"),
            providers_dir: None,
            providers: BTreeMap::new(),
            image: ImageAdditions::default(),
            machines: Machines::default(),
            sessions: Sessions::default(),
            credentials: Credentials::default(),
            http: Http::default(),
            tunnel: TunnelSettings::default(),
            store: Store::default(),
            egress: Egress::default(),
            log: Log::default(),
            external_machines: BTreeMap::new(),
            retention: Retention::default(),
            webhook: WebhookSettings::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { body_bytes_max: 64 * 1024, delivery_bytes_max: 1024 * 1024, drain_ms_max: 5_000 }
    }
}

fn base_dir(variable: &str, below_home: &str) -> PathBuf {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    set.unwrap_or_else(|| home().join(below_home)).join("anteroom")
}

/// All errors of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {} has {} error(s):{}", path.display(), errors.len(), errors.iter().map(|error| format!("\n  - {error}")).collect::<String>())]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// One sentence for each error.
    pub errors: Vec<String>,
}

impl Config {
    /// Reads a file. All unknown keys and invalid values are reported at once.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has unknown keys or invalid values.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let fail = |errors: Vec<String>| ConfigErrors { path: path.to_owned(), errors };
        let text = std::fs::read_to_string(path).map_err(|error| fail(vec![format!("cannot be read: {error}")]))?;
        Self::parse(&text).map_err(fail)
    }

    /// Parses a text; see [`Config::read`].
    ///
    /// # Errors
    /// All errors, one sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let mut errors = unknown_keys(&table);
        remove_wrong_types(&mut table, &mut errors);
        match table.try_into::<Self>() {
            Ok(config) => {
                errors.extend(config.validate());
                if errors.is_empty() { Ok(config) } else { Err(errors) }
            }
            Err(error) => {
                errors.push(error.to_string().trim().replace('\n', " "));
                Err(errors)
            }
        }
    }

    /// The external address, without a slash at its end.
    pub fn base_url(&self, listening: SocketAddr) -> String {
        self.public_url
            .as_ref()
            .map_or_else(|| format!("http://{listening}"), |url| url.trim_end_matches('/').to_owned())
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.log.file.clone().unwrap_or_else(|| self.state_dir.join("log").join("anteroom.jsonl"))
    }

    /// The directory of machine receipts.
    pub fn receipts_dir(&self) -> PathBuf {
        self.state_dir.join("receipts")
    }

    /// The directory of support bundles.
    pub fn bundles_dir(&self) -> PathBuf {
        self.state_dir.join("bundles")
    }

    fn validate(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut check = |name: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                errors.push(format!("{name} is {value}; it must be {min} to {max}"));
            }
        };
        self.machines.check_ranges(&mut check);
        self.sessions.check_ranges(&mut check);
        self.credentials.check_ranges(&mut check);
        self.log.check_ranges(&mut check);
        self.retention.check_ranges(&mut check);
        self.webhook.check_ranges(&mut check);
        connections::check_ranges(self, &mut check);
        self.validate_combinations(&mut errors);
        errors
    }

    /// Validates settings that depend on each other, and texts.
    fn validate_combinations(&self, errors: &mut Vec<String>) {
        let (s, h) = (&self.sessions, &self.http);
        // Base64 encodes three bytes as four. A delivery that is too large is rejected without a retry.
        if s.credential_bytes_max.saturating_mul(4) / 3 + 4096 > h.delivery_bytes_max as u64 {
            errors.push(format!(
                "http.delivery_bytes_max is {}; with sessions.credential_bytes_max {} it must be at least {}",
                h.delivery_bytes_max,
                s.credential_bytes_max,
                s.credential_bytes_max.saturating_mul(4) / 3 + 4096
            ));
        }
        if !self.listen.ip().is_loopback() && self.public_url.is_none() {
            errors.push(format!(
                "listen is {}, which other hosts can reach, and public_url is not set: set public_url to the https address of \
                 the reverse proxy, or listen on 127.0.0.1",
                self.listen
            ));
        }
        if let Some(url) = &self.public_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            errors.push(format!("public_url {url:?} must begin with https:// or http://"));
        }
        errors.extend(self.webhook.faults());
        errors.extend(self.image.validate());
        if let Err(invalid) = HostOverrides::parse(&self.egress.overrides) {
            errors.extend(invalid.iter().map(ToString::to_string));
        }
        match ExternalMachines::load(&self.external_machines) {
            Ok(machines) => errors.extend(machines.too_slow_for(self.sessions.socket_wait_ms_max)),
            Err(invalid) => errors.extend(invalid),
        }
    }
}

/// Removes values of the wrong type and reports them with the full name of the setting, so that all other values can be
/// validated.
fn remove_wrong_types(table: &mut toml::Table, errors: &mut Vec<String>) {
    let is_wrong = |value: toml::Table, name: &str, errors: &mut Vec<String>| {
        let Err(error) = value.try_into::<Config>() else { return false };
        // Unknown settings are already reported.
        if !errors.iter().any(|error| error.starts_with(&format!("{name} is not a setting"))) {
            errors.push(format!("{name}: {}", error.message().trim().replace('\n', " ")));
        }
        true
    };
    table.retain(|section, value| {
        if let toml::Value::Table(keys) = value {
            keys.retain(|key, value| {
                let setting = toml::Table::from_iter([((*key).to_owned(), value.clone())]);
                let setting = toml::Table::from_iter([(section.to_owned(), toml::Value::Table(setting))]);
                !is_wrong(setting, &format!("{section}.{key}"), errors)
            });
        }
        !is_wrong(toml::Table::from_iter([(section.to_owned(), value.clone())]), section, errors)
    });
}

/// The full names of keys that do not exist. Tables with arbitrary keys are checked by the modules that use them.
fn unknown_keys(given: &toml::Table) -> Vec<String> {
    const OPTIONAL: &[&str] = &[
        "public_url",
        "providers_dir",
        "log.file",
        "log.error_file",
        "webhook.url",
        "webhook.secret_file",
        "webhook.ca_file",
    ];
    const ARBITRARY_KEYS: &[&str] = &["providers", "egress.overrides", "external_machines"];
    fn walk(given: &toml::Table, known: &toml::Table, prefix: &str, errors: &mut Vec<String>) {
        for (key, value) in given {
            let name = format!("{prefix}{key}");
            if OPTIONAL.contains(&name.as_str()) || ARBITRARY_KEYS.contains(&name.as_str()) {
                continue;
            }
            match (known.get(key), value) {
                (None, _) => errors.push(format!("{name} is not a setting")),
                (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
                    walk(given, known, &format!("{name}."), errors);
                }
                (Some(_), _) => {}
            }
        }
    }
    let mut errors = Vec::new();
    if let Ok(known) = toml::Table::try_from(Config::default()) {
        walk(given, &known, "", &mut errors);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_file_is_the_default_configuration() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let errors = Config::parse(
            "listen = '0.0.0.0:80'\nspeed = 3\n[machines]\ncpus = 0\nmemory = 5\n[egress.overrides]\n'x' = '127.0.0.1:1'\n",
        )
        .unwrap_err();
        let all = errors.join("\n");
        for part in
            ["speed is not a setting", "machines.memory is not a setting", "machines.cpus is 0", "public_url", "\"x\""]
        {
            assert!(all.contains(part), "{part} in {all}");
        }
    }

    #[test]
    fn value_of_wrong_type_does_not_hide_other_errors() {
        let errors = Config::parse(
            "listen = 7\nspeed = 3\n[machines]\ncpus = 0.5\nwidth = 'wide'\nheight = 1\n[tunnel]\nhaste = 1\nchunk_bytes = -1\n\
             [sessions]\nidle_s_max = 0\n",
        )
        .unwrap_err();
        let wanted = [
            "speed is not a setting",
            "tunnel.haste is not a setting",
            "listen: ",
            "machines.cpus: ",
            "machines.width: ",
            "tunnel.chunk_bytes: ",
            "machines.height is 1",
            "sessions.idle_s_max is 0",
        ];
        for part in wanted {
            assert!(errors.iter().any(|error| error.starts_with(part)), "{part} in {errors:#?}");
        }
        assert_eq!(errors.len(), wanted.len(), "{errors:#?}");
    }

    /// The full names of all numbers in a table.
    fn numbers(table: &toml::Table, prefix: &str) -> Vec<String> {
        let below = table.iter().map(|(key, value)| match value {
            toml::Value::Table(table) => numbers(table, &format!("{prefix}{key}.")),
            value if value.is_integer() => vec![format!("{prefix}{key}")],
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => Vec::new(),
        });
        below.flatten().collect()
    }

    #[test]
    fn every_number_has_a_minimum_and_a_maximum() {
        let names = numbers(&toml::Table::try_from(Config::default()).unwrap(), "");
        assert!(names.len() > 60, "{names:?}");
        let rejected = |name: &str, value: i64| {
            Config::parse(&format!("{name} = {value}\n")).err().is_some_and(|errors| !errors.is_empty())
        };
        let unlimited: Vec<&String> = names
            .iter()
            // The maximum may exceed 32 bits only for settings in bytes or MiB.
            .filter(|name| {
                let is_size = ["bytes", "mib", "memory", "disk"].iter().any(|unit| name.contains(unit));
                !rejected(name, i64::MAX) || !rejected(name, -1) || !is_size && !rejected(name, i64::from(u32::MAX))
            })
            .collect();
        assert!(unlimited.is_empty(), "without a range: {unlimited:?}");
    }

    #[test]
    fn fractional_cpu_count_is_rejected() {
        let errors = Config::parse("[machines]\ncpus = 0.5\n").unwrap_err();
        assert!(errors[0].contains("cpus") || errors[0].contains("0.5") || errors[0].contains("integer"), "{errors:?}");
    }

    #[test]
    fn example_configuration_is_valid_and_shows_the_defaults() {
        let text = include_str!("../../../anteroom.example.toml");
        let mut config = Config::parse(text).unwrap();
        let default = Config::default();
        config.state_dir.clone_from(&default.state_dir);
        config.cache_dir.clone_from(&default.cache_dir);
        assert_eq!(config, default);
    }
}
