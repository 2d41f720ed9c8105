//! Finds the keys: a configured file, a systemd credential, or the file in the state directory.

use crate::config::Config;
use anteroom_vault::{KeySource, TokenSettings};
use std::path::PathBuf;

/// The name of the key file in the state directory, and of the systemd credential.
const KEY_FILE_NAME: &str = "vault.key";

/// The key file of this configuration. A file in `$CREDENTIALS_DIRECTORY` belongs to the service manager and is never changed.
pub fn key_source(config: &Config) -> KeySource {
    let vault = &config.vault;
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
    let provided = directory.as_ref().map(|directory| directory.join(KEY_FILE_NAME)).filter(|path| path.exists());
    let source = match (&vault.key_file, provided) {
        (Some(path), _) if directory.as_ref().is_some_and(|directory| path.starts_with(directory)) => {
            KeySource::read_only_file(path)
        }
        (Some(path), _) => KeySource::file(path),
        (None, Some(path)) => KeySource::read_only_file(path),
        (None, None) => KeySource::file(config.state_dir.join(KEY_FILE_NAME)),
    };
    match (&vault.pkcs11_module, &vault.pkcs11_token_label, &vault.pkcs11_pin_file) {
        (Some(module), Some(token_label), Some(pin_file)) => source.wrapped_by(TokenSettings {
            module: module.clone(),
            token_label: token_label.clone(),
            key_label: vault.pkcs11_key_label.clone(),
            pin_file: pin_file.clone(),
        }),
        // Other combinations are errors of the configuration.
        _ => source,
    }
}
