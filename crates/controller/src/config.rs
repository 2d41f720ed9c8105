//! The configuration: one TOML file with what an operator changes. All errors are reported at once. Other limits: [`limits`](crate::limits).

mod audit;
mod cluster;
mod connections;
mod credentials;
mod database;
mod image;
mod log;
mod machines;
mod public_url;
pub mod reload;
mod retention;
mod sessions;
mod sources;
mod table;
mod tls;
mod vault;

pub use audit::Audit;
pub use cluster::{ClusterSettings, EtcdSection, LivenessSetting, PeerTls};
pub use connections::{Egress, EgressProxy, Http};
pub use credentials::Credentials;
pub use database::{DatabasePasswordError, DatabaseSettings};
pub use image::ImageAdditions;
pub use log::{Log, LogFormat};
pub use machines::Machines;
pub use public_url::normalise_public_url;
pub use retention::Retention;
pub use sessions::Sessions;
pub use sources::{ConfigSources, Override, ShownSetting};
pub use tls::{Acme, Tls};
pub use vault::Vault;

use crate::{
    external::ExternalMachines,
    oidc::settings::OidcSettings,
    settings::{self, settings},
    webhook::receiver_settings::WebhookReceivers,
};
use anteroom_store::Address;
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The socket's name below the state directory.
pub const LOCAL_API_SOCKET_NAME: &str = "anteroom.sock";

settings! {
    /// The whole configuration. Every key has a default; unknown keys are errors.
    pub struct Config {
        /// Address to listen on; with port 0 the system chooses a free port. If other hosts can reach it, `public_url` must be set.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7_060));
        /// External address, if a reverse proxy is in front: links begin with it, and pages work only under it. Scheme, host name and
        /// port, without a path. The proxy must pass on the `Host` header. Default: `http://<name of this server>.localhost:<port>`.
        public_url: Option<String> = None, example r#""https://anteroom.example""#;
        /// Reverse proxies, as networks. Only from their addresses are the headers `X-Forwarded-For` and `Forwarded` read: limits by
        /// address then apply to the client, not to the proxy. Default: none.
        trusted_proxies: Vec<IpNet> = Vec::new(), example r#"["127.0.0.1/32", "::1/128"]"#;
        /// Database, key file, machines' run directories, receipts. Default: `$XDG_STATE_HOME/anteroom`.
        state_dir: PathBuf = base_dir("XDG_STATE_HOME", ".local/state"), example r#""/var/lib/anteroom""#;
        /// Images and templates, which can be rebuilt. Default: `$XDG_CACHE_HOME/anteroom`.
        cache_dir: PathBuf = base_dir("XDG_CACHE_HOME", ".cache"), example r#""/var/cache/anteroom""#;
        /// Directory of provider descriptors (`NAME.toml`) that add to or replace the built-in ones. Default: none.
        providers_dir: Option<PathBuf> = None, example r#""/etc/anteroom/providers""#;
        /// Overrides of a built-in provider descriptor, or a new one (docs/providers.md):
        providers: BTreeMap<String, toml::Table> = BTreeMap::new(), lines r#"[providers.codex]
argv = ["codex", "login", "--device-auth"]"#;
        /// An existing desktop that sessions can use instead of a cloned machine (docs/external_machines.md):
        external_machines: BTreeMap<String, toml::Value> = BTreeMap::new(), lines r#"[external_machines.desk]
desktop = "wss://desk.example:6080/"  # a websockify server with TLS, or "vencrypt://desk.example:5900"
agent_token_file = "/etc/anteroom/desk.token"  # token of 16 to 512 visible characters; readable only by its owner
password_file = "/etc/anteroom/desk.password"  # the desktop's password; absent: its user enters it
connect_ms_max = 900                  # connection timeout, 10 to 10000; then external_timeout
greeting_ms_max = 5000                # timeout for the VNC handshake, 10 to 60000; then external_silent"#;
    }
    sections {
        /// Machines: hardware, timeouts, and what the host must have free.
        machines: Machines;
        /// Additional tools in the machines' image, for the next `anteroom image build` (docs/providers.md).
        image: ImageAdditions;
        /// Sessions: duration, number and timeouts.
        sessions: Sessions;
        /// Stored credentials: checks and expiry.
        credentials: Credentials;
        /// The database: a file, or a database of PostgreSQL (docs/postgresql.md).
        database: DatabaseSettings;
        /// Several hosts that share one database of PostgreSQL (docs/cluster.md). Without `name` this host is alone.
        cluster: ClusterSettings;
        /// The keys that wrap stored credentials (docs/keys.md).
        vault: Vault;
        /// HTTP.
        http: Http;
        /// TLS without a reverse proxy (docs/operations.md). `public_url` must then begin with https://.
        tls: Tls;
        /// Outbound connections of machines.
        egress: Egress;
        /// The server's log.
        log: Log;
        /// Receipts (how machines ended, with the end of their consoles) and support bundles. The reconciliation deletes the oldest
        /// first.
        retention: Retention;
        /// The audit trail (docs/audit.md). Its oldest files are removed as a whole; the newest always stays.
        audit: Audit;
        /// Messages about sessions and credentials (docs/webhook.md).
        webhook: WebhookReceivers;
        /// Sign-in of people with an OpenID provider (docs/oidc.md).
        oidc: OidcSettings;
    }
}

fn base_dir(variable: &str, below_home: &str) -> PathBuf {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    set.unwrap_or_else(|| home().join(below_home)).join("anteroom")
}

/// All errors of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration{} has {} error(s):{}", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default(), errors.len(), errors.iter().map(|error| format!("\n  - {error}")).collect::<String>())]
pub struct ConfigErrors {
    /// The file; `None`: there is none.
    pub path: Option<PathBuf>,
    /// One sentence for each error.
    pub errors: Vec<String>,
}

impl Config {
    /// Reads a file. All unknown keys and invalid values are reported at once.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has unknown keys or invalid values.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        ConfigSources { file: Some(path.to_owned()), overrides: Vec::new() }.read()
    }

    /// Parses a text; see [`Config::read`].
    ///
    /// # Errors
    /// All errors, one sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        match Self::from_table(table) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(errors),
        }
    }

    /// The configuration of a table without the values that have a wrong type, and everything that is wrong with it. `None`: there is no
    /// such configuration.
    fn from_table(mut table: toml::Table) -> (Option<Self>, Vec<String>) {
        let mut errors = Vec::new();
        remove_wrong_types(&mut table, &[], &mut errors);
        let mut unknown = |key: serde_ignored::Path<'_>| errors.push(format!("{key} is not a setting"));
        match serde_ignored::deserialize::<_, _, Self>(toml::Value::Table(table), &mut unknown) {
            Ok(config) => {
                errors.extend(config.validate());
                (Some(config), errors)
            }
            Err(error) => {
                errors.push(one_line(&error.to_string()));
                (None, errors)
            }
        }
    }

    /// The text of `anteroom.example.toml`: all settings with their documentation, defaults and ranges.
    pub fn example_file() -> String {
        let mut text = String::from(EXAMPLE_HEAD);
        settings::write_example(&Self::default(), "", &mut text);
        text
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.log.file.clone().unwrap_or_else(|| self.state_dir.join("log").join("anteroom.jsonl"))
    }

    /// Where the database is, with its password.
    ///
    /// # Errors
    /// The password cannot be read.
    pub fn database_address(&self) -> Result<Address, DatabasePasswordError> {
        let address = self.database.postgres_address()?;
        Ok(address.map_or_else(|| Address::File(self.state_dir.join("anteroom.db")), Address::Postgres))
    }

    /// The directory of the audit trail.
    pub fn audit_dir(&self) -> PathBuf {
        self.state_dir.join("audit")
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
        let mut errors = settings::validate_ranges(self, "");
        self.validate_combinations(&mut errors);
        errors
    }

    /// Validates settings that depend on each other, and texts.
    fn validate_combinations(&self, errors: &mut Vec<String>) {
        if !self.listen.ip().is_loopback() && self.public_url.is_none() {
            errors.push(format!(
                "listen is {}, which other hosts can reach, and public_url is not set: set public_url to the https address of \
                 the reverse proxy (or of this server, with [tls]), or listen on 127.0.0.1",
                self.listen
            ));
        }
        if let Some(Err(error)) = self.public_url.as_deref().map(normalise_public_url) {
            errors.push(error);
        }
        errors.extend(self.http.validation_errors());
        errors.extend(self.tls.validation_errors(self.public_url.as_deref()));
        errors.extend(self.log.validation_errors());
        errors.extend(self.webhook.validation_errors());
        errors.extend(self.oidc.validation_errors(self.public_url.as_deref()));
        errors.extend(self.image.validate());
        errors.extend(self.vault.validate());
        errors.extend(self.database.validation_errors());
        errors.extend(self.cluster.validation_errors(self.database.url.is_some()));
        if self.cluster.is_set() && self.tls.acme.is_set() {
            errors.push(
                "tls.acme cannot be used with [cluster], since the authority may connect to another host than the one that asked: \
                 set tls.certificate_file, or terminate TLS at the load balancer"
                    .to_owned(),
            );
        }
        errors.extend(self.egress.validation_errors());
        match ExternalMachines::load(&self.external_machines) {
            Ok(machines) => errors.extend(machines.too_slow_for(self.sessions.socket_wait_ms_max)),
            Err(invalid) => errors.extend(invalid),
        }
    }
}

/// The head of the example file.
const EXAMPLE_HEAD: &str = "\
# Configuration of Anteroom. Use it with `anteroom --config FILE …`.
# The values are the defaults, except where a comment names another default. Units are in the names: _ms milliseconds,
# _s seconds, _mib mebibytes, _bytes bytes. Unknown keys are errors, and all errors are reported at once.
# This file is generated from crates/controller/src/config.rs; ANTEROOM_WRITE_DOCS=1 rewrites it when its test runs.

";

/// Removes values of the wrong type and reports them with the full name of the setting, so that all other values can be
/// validated. `parents` are the keys of `table`.
fn remove_wrong_types(table: &mut toml::Table, parents: &[&str], errors: &mut Vec<String>) {
    table.retain(|key, value| {
        let keys = [parents, &[key]].concat();
        if let toml::Value::Table(inner) = value {
            remove_wrong_types(inner, &keys, errors);
        }
        let only_this = keys
            .iter()
            .rev()
            .fold(value.clone(), |inner, key| toml::Table::from_iter([((*key).to_owned(), inner)]).into());
        let parsed = only_this.try_into::<Config>();
        errors.extend(parsed.as_ref().err().map(|error| format!("{}: {}", keys.join("."), one_line(error.message()))));
        parsed.is_ok()
    });
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ServerLimits;

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
            "listen = 7\nspeed = 3\n[machines]\ncpus = 0.5\nwidth = 'wide'\nheight = 1\n[credentials]\nhaste = 1\nexpiry_warning_s = -1\n\
             [sessions]\nidle_s_max = 0\n",
        )
        .unwrap_err();
        let wanted = [
            "speed is not a setting",
            "credentials.haste is not a setting",
            "listen: ",
            "machines.cpus: ",
            "machines.width: ",
            "credentials.expiry_warning_s: ",
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
        let mut names = numbers(&toml::Table::try_from(Config::default()).unwrap(), "");
        // Its default depends on the accelerator.
        names.push("machines.ready_ms_max".to_owned());
        assert!(names.len() > 25, "{names:?}");
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
    fn liveness_timeout_is_not_shorter_than_the_silence_that_ends_readiness() {
        let silence_s = anteroom_machine::PING_MS_MAX.div_ceil(1_000);
        let parsed = |timeout_s: u64| Config::parse(&format!("[machines]\nliveness_timeout_s = {timeout_s}\n"));
        let errors = parsed(silence_s - 1).unwrap_err();
        assert_eq!(errors, ["machines.liveness_timeout_s is 5; it must be 6 to 3600"]);
        assert!(parsed(silence_s).is_ok());
    }

    #[test]
    fn limits_of_tests_are_not_settings() {
        let mut limits = ServerLimits::default();
        limits.machines.liveness_timeout_ms = Some(6_000);
        let limits = toml::Table::try_from(limits).unwrap();
        let text = toml::to_string(&limits).unwrap();
        let errors = Config::parse(&text).unwrap_err();
        let sections = toml::Table::try_from(Config::default()).unwrap();
        // A table that the configuration does not have is unknown as a whole.
        let keys = |(name, limits): (&String, &toml::Value)| {
            if sections.contains_key(name) { limits.as_table().unwrap().len() } else { 1 }
        };
        assert_eq!(errors.len(), limits.iter().map(keys).sum::<usize>(), "{errors:#?}");
        assert!(errors.iter().all(|error| error.ends_with("is not a setting")), "{errors:#?}");
    }

    #[test]
    fn example_configuration_is_valid_and_shows_the_defaults() {
        let text = include_str!("../../../anteroom.example.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
    }

    /// `ANTEROOM_WRITE_DOCS=1` rewrites the file.
    #[test]
    fn example_configuration_is_generated_from_the_settings() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../anteroom.example.toml");
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(&path, Config::example_file()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == Config::example_file(),
            "anteroom.example.toml differs from the settings: run the test with ANTEROOM_WRITE_DOCS=1"
        );
    }

    #[test]
    fn example_values_are_valid() {
        let examples = settings::list_examples(&Config::default(), "");
        assert!(examples.len() > 5, "{examples:?}");
        for (name, value) in examples {
            let errors = Config::parse(&format!("{name} = {value}\n")).err().unwrap_or_default();
            assert!(errors.iter().all(|error| !error.starts_with(&name)), "{errors:?}");
        }
    }
}
