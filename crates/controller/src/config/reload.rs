//! Which settings take effect without a restart.

use super::{Config, table::changed_settings};

/// A new configuration, as far as it takes effect without a restart.
#[derive(Debug)]
pub struct Reload {
    /// The configuration from now on.
    pub config: Config,
    /// The names of the settings that changed and take effect.
    pub applied: Vec<String>,
    /// The names of the settings that changed and need a restart.
    pub need_restart: Vec<String>,
}

impl Reload {
    /// Takes from `new` what can take effect, and leaves the rest as it is in `current`.
    pub fn new(current: &Config, new: &Config) -> Self {
        let config = merge(current, new);
        Self { applied: changed_settings(current, &config), need_restart: changed_settings(&config, new), config }
    }
}

/// `current` with the settings of `new` that are read where they are used. Everything else was copied when the server started.
fn merge(current: &Config, new: &Config) -> Config {
    let mut config = current.clone();
    config.providers_dir.clone_from(&new.providers_dir);
    config.providers.clone_from(&new.providers);
    // Only the next build of an image uses these.
    config.image.clone_from(&new.image);
    config.credentials.clone_from(&new.credentials);
    config.webhook.clone_from(&new.webhook);
    config.log.level.clone_from(&new.log.level);
    let (machines, sessions) = (&new.machines, &new.sessions);
    config.machines.memory_per_machine_mib = machines.memory_per_machine_mib;
    config.machines.memory_free_mib_min = machines.memory_free_mib_min;
    config.machines.memory_overcommit_percent = machines.memory_overcommit_percent;
    config.machines.disk_free_mib_min = machines.disk_free_mib_min;
    config.sessions.idle_s_max = sessions.idle_s_max;
    config.sessions.restarts_max = sessions.restarts_max;
    config.sessions.queue_s_max = sessions.queue_s_max;
    config.sessions.socket_wait_ms_max = sessions.socket_wait_ms_max;
    config.sessions.capture_stable_ms = sessions.capture_stable_ms;
    config.http.drain_ms_max = new.http.drain_ms_max;
    config.egress.upload_warning_mib = new.egress.upload_warning_mib;
    config.retention.sessions_s_max = new.retention.sessions_s_max;
    config.retention.receipts_s_max = new.retention.receipts_s_max;
    config.retention.bundles_bytes_max = new.retention.bundles_bytes_max;
    config.retention.bundles_s_max = new.retention.bundles_s_max;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_need_a_restart_keep_their_value_and_are_named() {
        let current = Config::default();
        let mut new = Config::default();
        new.sessions.idle_s_max = 1_200;
        new.log.level = "debug".to_owned();
        new.machines.machines_max = 3;
        new.listen = "127.0.0.1:1".parse().unwrap();
        let reload = Reload::new(&current, &new);
        assert_eq!(reload.applied, ["log.level", "sessions.idle_s_max"]);
        assert_eq!(reload.need_restart, ["listen", "machines.machines_max"]);
        assert_eq!((reload.config.sessions.idle_s_max, reload.config.machines.machines_max), (1_200, 10));
        let again = Reload::new(&reload.config, &new);
        assert!(again.applied.is_empty() && again.need_restart.len() == 2, "{again:?}");
    }
}
