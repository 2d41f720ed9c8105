//! The keys that wrap stored credentials.

use crate::settings::settings;
use std::path::PathBuf;

settings! {
    /// The keys that wrap stored credentials (docs/keys.md).
    pub struct Vault {
        /// The key file. Default: `vault.key` in `$CREDENTIALS_DIRECTORY` (a systemd credential), if it exists, else in `state_dir`.
        key_file: Option<PathBuf> = None, example r#""/etc/anteroom/vault.key""#;
        /// The PKCS#11 library of a token whose key wraps those of the key file. Default: none; the key file has plain keys.
        pkcs11_module: Option<PathBuf> = None, example r#""/usr/lib/softhsm/libsofthsm2.so""#;
        /// The label of the token.
        pkcs11_token_label: Option<String> = None, example r#""anteroom""#;
        /// The label of the AES key in the token.
        pkcs11_key_label: String = "anteroom".to_owned();
        /// File with the token's user PIN, readable only by its owner.
        pkcs11_pin_file: Option<PathBuf> = None, example r#""/etc/anteroom/pkcs11.pin""#;
    }
}

impl Vault {
    /// Errors of combinations.
    pub(super) fn validate(&self) -> Option<String> {
        let set = [self.pkcs11_module.is_some(), self.pkcs11_token_label.is_some(), self.pkcs11_pin_file.is_some()];
        let incomplete = set.contains(&true) && set.contains(&false);
        incomplete.then(|| {
            "a PKCS#11 token needs vault.pkcs11_module, vault.pkcs11_token_label and vault.pkcs11_pin_file: set all three or none"
                .to_owned()
        })
    }
}
