//! Which settings differ from those of the start before. Their values may be secret, so only keyed hashes of them are kept.

use crate::{config::Config, random};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Bytes of a hash that are kept: enough to notice a change.
const HASH_BYTES: usize = 8;

/// What is kept of the settings of a start.
#[derive(Debug, Serialize, Deserialize)]
struct KeptSettings {
    /// The key of the hashes, in hexadecimal.
    key: String,
    /// By the name of the setting.
    hashes: BTreeMap<String, String>,
}

/// The names of the settings that differ from those that `file` describes, or from the defaults if there is no such file. `file` describes
/// the current ones then.
///
/// # Errors
/// The file cannot be read or written.
pub fn changed_settings(config: &Config, file: &Path) -> io::Result<Vec<String>> {
    let kept = match fs::read(file) {
        Ok(text) => serde_json::from_slice::<KeptSettings>(&text).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_kept = kept.is_some();
    // A damaged file is as none.
    let before = kept.unwrap_or_else(|| {
        let key = hex::encode(random::random_bytes::<32>());
        KeptSettings { hashes: hashes(&Config::default(), &key), key }
    });
    let current = KeptSettings { hashes: hashes(config, &before.key), key: before.key };
    let (now, before) = (&current.hashes, &before.hashes);
    let names = now.keys().chain(before.keys().filter(|name| !now.contains_key(*name)));
    let changed: Vec<_> = names.filter(|name| now.get(*name) != before.get(*name)).cloned().collect();
    if !changed.is_empty() || !is_kept {
        let temporary = file.with_extension("new");
        let mut open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        open.write_all(&serde_json::to_vec(&current)?)?;
        fs::rename(&temporary, file)?;
    }
    Ok(changed)
}

fn hashes(config: &Config, key: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // A configuration is always a table.
    if let Ok(toml::Value::Table(table)) = toml::Value::try_from(config) {
        collect(&table, "", key.as_bytes(), &mut found);
    }
    found
}

fn collect(table: &toml::Table, prefix: &str, key: &[u8], found: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        if let toml::Value::Table(below) = value {
            collect(below, &format!("{name}."), key, found);
        } else if let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) {
            mac.update(value.to_string().as_bytes());
            let hash = mac.finalize().into_bytes();
            found.insert(name, hex::encode(hash.get(..HASH_BYTES).unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_settings_are_named_once_and_their_values_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.json");
        let config = Config::parse("public_url = 'https://secret.example'\n[sessions]\nidle_s_max = 601\n").unwrap();
        assert_eq!(changed_settings(&config, &file).unwrap(), ["public_url", "sessions.idle_s_max"]);
        assert_eq!(changed_settings(&config, &file).unwrap(), [""; 0]);
        assert!(!fs::read_to_string(&file).unwrap().contains("secret"));
        assert_eq!(
            changed_settings(&Config::default(), &file).unwrap(),
            ["sessions.idle_s_max", "public_url"],
            "a setting that is removed is a change"
        );
    }
}
