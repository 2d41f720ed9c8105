//! Settings that flags and variables of the environment set.

use super::{Arguments, Command};
use anteroom_controller::{
    config::{Config, ConfigSources, Override},
    log,
};
use anyhow::Context;
use std::path::PathBuf;

/// The settings that flags and variables of the environment set.
pub(super) fn given(arguments: &Arguments) -> anyhow::Result<Vec<Override>> {
    let mut listen = None;
    if let Command::Serve { listen: Some(address), .. } = &arguments.command {
        listen = Some(address.to_string());
    } else if let Command::Config(_) = &arguments.command {
        listen = std::env::var("ANTEROOM_LISTEN").ok();
    }
    let path = |dir: &Option<PathBuf>| {
        let text = dir.as_ref().map(|dir| dir.to_str().map(str::to_owned).context("a directory is not valid UTF-8"));
        text.transpose()
    };
    let all = [
        ("state_dir", path(&arguments.state_dir)?, ["--state-dir", "ANTEROOM_STATE_DIR"]),
        ("cache_dir", path(&arguments.cache_dir)?, ["--cache-dir", "ANTEROOM_CACHE_DIR"]),
        ("listen", listen, ["--listen", "ANTEROOM_LISTEN"]),
    ];
    let set = all.into_iter().filter_map(|(key, value, [flag, variable])| {
        let source = if is_argument(flag) { flag } else { variable };
        Some(Override { key, value: value?.into(), source })
    });
    Ok(set.collect())
}

/// Whether this program was started with the flag.
fn is_argument(flag: &str) -> bool {
    let mut arguments = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    let is_flag = |text: &str| text.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    arguments.any(|argument| is_flag(&argument.to_string_lossy()))
}

/// Reads the configuration of a command, and starts its log.
pub(super) fn read_for_command(sources: &ConfigSources) -> anyhow::Result<Config> {
    let config = sources.read()?;
    let mut log_config = config.log.clone();
    if log_config.level == "info" {
        // The output of a command is enough; only warnings are logged.
        log_config.level = "warn".into();
    }
    log::start_console(&log_config)?;
    Ok(config)
}
