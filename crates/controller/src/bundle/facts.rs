//! What is said of server and host: versions, settings without what is particular to this host, and facts that cost nothing.

use crate::{admission, app::App, config::Config};
use serde_json::{Value, json};
use std::fs;

/// Server, image and tools.
pub(super) fn versions(app: &App) -> Value {
    json!({
        "anteroom": env!("CARGO_PKG_VERSION"),
        "image": app.image.hash,
        "clis": app.image.clis,
        "accelerator": app.image.accelerator,
        "emulated": app.image.emulated,
    })
}

/// The settings as TOML: of paths the last part, of addresses the scheme and host, of free tables the keys.
pub(super) fn settings(config: &Config) -> String {
    let Ok(mut table) = toml::Table::try_from(config) else { return String::new() };
    for (name, value) in &mut table {
        match (name.as_str(), value) {
            ("providers" | "external_machines", value) => *value = keys_of(value),
            ("egress", toml::Value::Table(egress)) => {
                if let Some(answers) = egress.get_mut("answers") {
                    *answers = keys_of(answers);
                }
            }
            (_, value) => reduce(value),
        }
    }
    toml::to_string(&table).unwrap_or_default()
}

fn keys_of(value: &toml::Value) -> toml::Value {
    let keys = value.as_table().map(|table| table.keys().cloned().map(toml::Value::String).collect());
    toml::Value::Array(keys.unwrap_or_default())
}

fn reduce(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) if text.starts_with('/') => {
            let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            *text = format!("…/{last}");
        }
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| reduce(value)),
        toml::Value::Array(values) => values.iter_mut().for_each(reduce),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// The host: nothing is started to find it out.
pub(super) fn host(config: &Config) -> Value {
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
        "memory_available_mib": admission::available_mib(&meminfo),
        "state_disk_free_mib": admission::disk_free_mib(&config.state_dir).ok(),
        "cache_disk_free_mib": admission::disk_free_mib(&config.cache_dir).ok(),
        "dev_kvm": kvm,
        "qemu_found": anteroom_machine::qemu::find().is_some(),
        "cgroup_v2": fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false),
        "open_files_max": rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lose_paths_and_what_free_tables_say() {
        let config = Config::parse(
            "state_dir = '/home/eve/anteroom'\n[egress.answers]\n'a.example:443' = '192.0.2.1:8443'\n[providers.codex]\nargv = ['codex', '--key', 'k']\n",
        )
        .unwrap();
        let text = settings(&config);
        for absent in ["home/eve", "192.0.2.1", "--key"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        for present in ["…/anteroom", "a.example:443", "codex", "idle_s_max = 600"] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }
}
