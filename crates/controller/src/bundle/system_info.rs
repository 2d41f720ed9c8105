//! The parts of a bundle about server and host: versions, redacted settings, and host data that can be read without starting
//! a program.

use crate::{admission, config::Config, session::server_context::ServerContext};
use serde_json::{Value, json};
use std::fs;

/// Versions of server, image and tools.
pub(super) fn collect_versions(server_context: &ServerContext) -> Value {
    json!({
        "anteroom": env!("CARGO_PKG_VERSION"),
        "image": server_context.image.hash,
        "clis": server_context.image.tool_versions,
        "machine_kind": server_context.image.kind,
        "isolation": server_context.image.isolation,
    })
}

/// The settings as TOML. Paths are shortened to their last component, free-form tables to their keys.
pub(super) fn format_settings(config: &Config) -> String {
    let Ok(mut table) = toml::Table::try_from(config) else { return String::new() };
    for (name, value) in &mut table {
        match (name.as_str(), value) {
            ("providers" | "external_machines", value) => *value = keys_of(value),
            ("egress", toml::Value::Table(egress)) => {
                if let Some(overrides) = egress.get_mut("overrides") {
                    *overrides = keys_of(overrides);
                }
                egress.iter_mut().for_each(|(_, value)| shorten_paths(value));
            }
            (_, value) => shorten_paths(value),
        }
    }
    toml::to_string(&table).unwrap_or_default()
}

fn keys_of(value: &toml::Value) -> toml::Value {
    let keys = value.as_table().map(|table| table.keys().cloned().map(toml::Value::String).collect());
    toml::Value::Array(keys.unwrap_or_default())
}

fn shorten_paths(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) if text.starts_with('/') => {
            let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            *text = format!("…/{last}");
        }
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| shorten_paths(value)),
        toml::Value::Array(values) => values.iter_mut().for_each(shorten_paths),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// Kernel, memory, disk and KVM of the host.
pub(super) fn collect_host_info(config: &Config) -> Value {
    let uname = rustix::system::uname();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kvm = match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => "can be opened".to_owned(),
        Err(error) => error.kind().to_string(),
    };
    json!({
        "kernel": uname.release().to_string_lossy(),
        "processor": uname.machine().to_string_lossy(),
        "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_available_mib": admission::parse_available_mib(&meminfo),
        "state_disk_free_mib": admission::read_disk_free_mib(&config.state_dir).ok(),
        "cache_disk_free_mib": admission::read_disk_free_mib(&config.cache_dir).ok(),
        "dev_kvm": kvm,
        "qemu_found": anteroom_machine::qemu::find_qemu().is_some(),
        "cgroup_v2": fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false),
        "open_files_max": rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_omit_paths_and_values_of_free_form_tables() {
        let config = Config::parse(
            "state_dir = '/home/eve/anteroom'\n[egress.overrides]\n'a.example:443' = '192.0.2.1:8443'\n[providers.codex]\nargv = ['codex', '--key', 'k']\n",
        )
        .unwrap();
        let text = format_settings(&config);
        for absent in ["home/eve", "192.0.2.1", "--key"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        for present in ["…/anteroom", "a.example:443", "codex", "idle_s_max = 600"] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }
}
