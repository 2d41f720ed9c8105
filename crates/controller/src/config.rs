//! The configuration: one TOML file, every limit a setting with its unit in its name, all faults reported at once.

mod connections;
mod credentials;
mod evidence;
mod image;
mod machines;
mod sessions;

pub use credentials::Credentials;
pub use evidence::{Keep, Log, LogFormat};
pub use image::ImageAdditions;
pub use machines::{Accelerator, Machines};
pub use sessions::Sessions;

use crate::{
    egress::{HostOverrides, GateSettings},
    external::ExternalMachines,
    tunnel::TunnelSettings,
    webhook::settings::WebhookSettings,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The socket's name below the state directory.
pub const SOCKET_NAME: &str = "anteroom.sock";

/// The whole configuration. Every key has a default; unknown keys are faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where the server listens. A port of 0 takes any free one.
    pub listen: SocketAddr,
    /// The address people use when it is not `http://<listen>`: `https://anteroom.example`. Sets the printed links and,
    /// when it is https, makes cookies `Secure`.
    pub public_url: Option<String>,
    /// Database, key file, machines' run directories, receipts. Default: `$XDG_STATE_HOME/anteroom`.
    pub state_dir: PathBuf,
    /// Images and templates: can be made again. Default: `$XDG_CACHE_HOME/anteroom`.
    pub cache_dir: PathBuf,
    /// A directory of provider descriptors (`NAME.toml`) that add to, or replace, the built-in ones.
    pub providers_dir: Option<PathBuf>,
    /// Parts of built-in descriptors to change: `[providers.codex]`, any keys of a descriptor.
    pub providers: BTreeMap<String, toml::Table>,
    /// Further tools in the machines' image.
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
    /// Desktops that exist already: `[external_machines.NAME]`, see [`crate::external`].
    pub external_machines: BTreeMap<String, toml::Value>,
    /// Evidence: receipts of machines, support bundles.
    pub keep: Keep,
    /// Telling somebody outside.
    pub webhook: WebhookSettings,
}

/// HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Largest request body but for deliveries.
    pub body_bytes_max: usize,
    /// Largest delivery.
    pub delivery_bytes_max: usize,
    /// How long a graceful stop waits for open sockets.
    pub drain_ms_max: u64,
}

/// Outbound connections of machines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Egress {
    /// `"name:port" = "address:port"`: names that are answered here instead of by the Internet. The provider's list must
    /// still grant the name.
    pub overrides: BTreeMap<String, SocketAddr>,
    /// The gate's limits.
    pub limits: GateSettings,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// How long a call waits for the database before it counts as unavailable.
    pub busy_ms_max: u64,
    /// A write that takes longer is named in the log and counted.
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
            keep: Keep::default(),
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

/// Everything wrong with a configuration, at once.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {} has {} fault(s):{}", path.display(), faults.len(), faults.iter().map(|fault| format!("\n  - {fault}")).collect::<String>())]
pub struct Faults {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}

impl Config {
    /// Reads a file. All its unknown keys and bad values are reported at once.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has faults.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        let fail = |faults: Vec<String>| Faults { path: path.to_owned(), faults };
        let text = std::fs::read_to_string(path).map_err(|error| fail(vec![format!("cannot be read: {error}")]))?;
        Self::parse(&text).map_err(fail)
    }

    /// Reads a text; see [`Config::read`].
    ///
    /// # Errors
    /// The faults, one sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let mut faults = unknown_keys(&table);
        without_wrong_types(&mut table, &mut faults);
        match table.try_into::<Self>() {
            Ok(config) => {
                faults.extend(config.faults());
                if faults.is_empty() { Ok(config) } else { Err(faults) }
            }
            Err(error) => {
                faults.push(error.to_string().trim().replace('\n', " "));
                Err(faults)
            }
        }
    }

    /// The address people use, without a slash at its end.
    pub fn base_url(&self, listening: SocketAddr) -> String {
        self.public_url
            .as_ref()
            .map_or_else(|| format!("http://{listening}"), |url| url.trim_end_matches('/').to_owned())
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.log.file.clone().unwrap_or_else(|| self.state_dir.join("log").join("anteroom.jsonl"))
    }

    /// Where receipts of machines lie.
    pub fn receipts_dir(&self) -> PathBuf {
        self.state_dir.join("receipts")
    }

    /// Where support bundles lie.
    pub fn bundles_dir(&self) -> PathBuf {
        self.state_dir.join("bundles")
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut range = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(format!("{name} is {value}; it must be {least} to {most}"));
            }
        };
        self.machines.ranges(&mut range);
        self.sessions.ranges(&mut range);
        self.credentials.ranges(&mut range);
        evidence::ranges(&self.log, &self.keep, &mut range);
        self.webhook.ranges(&mut range);
        connections::ranges(self, &mut range);
        self.contradictions(&mut faults);
        faults
    }

    /// Settings that do not go together.
    fn contradictions(&self, faults: &mut Vec<String>) {
        let (s, h) = (&self.sessions, &self.http);
        // Base64 makes four bytes of three; a delivery that would not fit is refused for good.
        if s.credential_bytes_max.saturating_mul(4) / 3 + 4096 > h.delivery_bytes_max as u64 {
            faults.push(format!(
                "http.delivery_bytes_max is {}; sessions.credential_bytes_max of {} needs at least {}",
                h.delivery_bytes_max,
                s.credential_bytes_max,
                s.credential_bytes_max.saturating_mul(4) / 3 + 4096
            ));
        }
        if !self.listen.ip().is_loopback() && self.public_url.is_none() {
            faults.push(format!(
                "listen is {}, which others can reach, and public_url is not set: set public_url to the https address of the \
                 proxy in front, or listen on 127.0.0.1",
                self.listen
            ));
        }
        if let Some(url) = &self.public_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            faults.push(format!("public_url {url:?} must begin with https:// or http://"));
        }
        faults.extend(self.webhook.faults());
        faults.extend(self.image.faults());
        if let Err(wrong) = HostOverrides::parse(&self.egress.overrides) {
            faults.extend(wrong.iter().map(ToString::to_string));
        }
        match ExternalMachines::load(&self.external_machines) {
            Ok(machines) => faults.extend(machines.too_slow_for(self.sessions.socket_wait_ms_max)),
            Err(wrong) => faults.extend(wrong),
        }
    }
}

/// Takes out what is of another type than its setting and tells it by its full name, so that everything else can be looked at.
fn without_wrong_types(table: &mut toml::Table, faults: &mut Vec<String>) {
    let fault = |value: toml::Table, name: &str, faults: &mut Vec<String>| {
        let Err(error) = value.try_into::<Config>() else { return false };
        // What is no setting is told already.
        if !faults.iter().any(|fault| fault.starts_with(&format!("{name} is not a setting"))) {
            faults.push(format!("{name}: {}", error.message().trim().replace('\n', " ")));
        }
        true
    };
    table.retain(|section, value| {
        if let toml::Value::Table(keys) = value {
            keys.retain(|key, value| {
                let alone = toml::Table::from_iter([((*key).to_owned(), value.clone())]);
                let alone = toml::Table::from_iter([(section.to_owned(), toml::Value::Table(alone))]);
                !fault(alone, &format!("{section}.{key}"), faults)
            });
        }
        !fault(toml::Table::from_iter([(section.to_owned(), value.clone())]), section, faults)
    });
}

/// Keys that are not in the default configuration, by their full names. The free tables are checked where they are read.
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
    const FREE: &[&str] = &["providers", "egress.overrides", "external_machines"];
    fn walk(given: &toml::Table, known: &toml::Table, prefix: &str, faults: &mut Vec<String>) {
        for (key, value) in given {
            let name = format!("{prefix}{key}");
            if OPTIONAL.contains(&name.as_str()) || FREE.contains(&name.as_str()) {
                continue;
            }
            match (known.get(key), value) {
                (None, _) => faults.push(format!("{name} is not a setting")),
                (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
                    walk(given, known, &format!("{name}."), faults);
                }
                (Some(_), _) => {}
            }
        }
    }
    let mut faults = Vec::new();
    if let Ok(known) = toml::Table::try_from(Config::default()) {
        walk(given, &known, "", &mut faults);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let faults = Config::parse(
            "listen = '0.0.0.0:80'\nspeed = 3\n[machines]\ncpus = 0\nmemory = 5\n[egress.overrides]\n'x' = '127.0.0.1:1'\n",
        )
        .unwrap_err();
        let all = faults.join("\n");
        for part in
            ["speed is not a setting", "machines.memory is not a setting", "machines.cpus is 0", "public_url", "\"x\""]
        {
            assert!(all.contains(part), "{part} in {all}");
        }
    }

    #[test]
    fn a_value_of_another_type_hides_no_other_fault() {
        let faults = Config::parse(
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
            assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} in {faults:#?}");
        }
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
    }

    /// The full names of all numbers below a table.
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
    fn every_number_has_a_least_and_a_most() {
        let names = numbers(&toml::Table::try_from(Config::default()).unwrap(), "");
        assert!(names.len() > 60, "{names:?}");
        let refused = |name: &str, value: i64| {
            Config::parse(&format!("{name} = {value}\n")).err().is_some_and(|faults| !faults.is_empty())
        };
        let endless: Vec<&String> = names
            .iter()
            // What fits 32 bits is within the range only where it counts bytes, MiB or kept files.
            .filter(|name| {
                let counts = ["bytes", "mib", "memory", "disk"].iter().any(|unit| name.contains(unit));
                !refused(name, i64::MAX) || !refused(name, -1) || !counts && !refused(name, i64::from(u32::MAX))
            })
            .collect();
        assert!(endless.is_empty(), "without a range: {endless:?}");
    }

    #[test]
    fn a_fractional_cpu_is_refused() {
        let faults = Config::parse("[machines]\ncpus = 0.5\n").unwrap_err();
        assert!(faults[0].contains("cpus") || faults[0].contains("0.5") || faults[0].contains("integer"), "{faults:?}");
    }

    #[test]
    fn the_example_configuration_is_sound_and_shows_the_defaults() {
        let text = include_str!("../../../anteroom.example.toml");
        let mut config = Config::parse(text).unwrap();
        let default = Config::default();
        config.state_dir.clone_from(&default.state_dir);
        config.cache_dir.clone_from(&default.cache_dir);
        assert_eq!(config, default);
    }
}
