//! The files that the settings name: everything that the server would refuse when it starts.

use crate::{
    api_error::chain,
    config::{Config, ConfigErrors, ConfigSources},
    egress,
    providers::Providers,
    tls::TlsCertificate,
};
use std::collections::BTreeSet;

/// Reads and checks the settings and the files that they name, as the server needs them.
///
/// # Errors
/// Everything that is wrong with them.
pub fn read_with_files(sources: &ConfigSources) -> Result<Config, ConfigErrors> {
    sources.read_and_check(file_errors)
}

/// One sentence for each fault. What is wrong with the settings themselves is not repeated.
fn file_errors(config: &Config) -> Vec<String> {
    let mut errors = BTreeSet::new();
    errors.extend(Providers::load(config).err().unwrap_or_default());
    errors.extend(config.webhook.file_errors());
    errors.extend(egress::extra_ca_pem(config).err().map(|error| chain(&error)));
    if config.egress.validation_errors().is_empty() {
        errors.extend(egress::open_proxy(config).err().map(|error| chain(&error)));
    }
    if config.tls.validation_errors(config.public_url.as_deref()).is_empty() {
        errors.extend(TlsCertificate::open(config).err().map(|error| chain(&error)));
    }
    if config.oidc.issuer.is_some() {
        errors.extend(config.oidc.read_secret().err().map(|error| chain(&error)));
    }
    errors.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Override;

    #[test]
    fn all_faults_of_settings_and_files_are_reported_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[log]\nlevel = 'loud'\n[providers.demo]\nargvv = ['x']\n[machines]\ncpus = 0\n\
                    [webhook]\nurl = 'https://a.example/'\nsecret_file = '/nowhere/secret'\n\
                    [egress]\nextra_ca_files = ['/nowhere/ca.pem']\n";
        let file = dir.path().join("anteroom.toml");
        std::fs::write(&file, text).unwrap();
        let listen = Override { key: "listen", value: "nowhere".into(), source: "--listen" };
        let all = read_with_files(&ConfigSources { file: Some(file), overrides: vec![listen] }).unwrap_err();
        for part in ["listen: ", "log.level", "argvv", "machines.cpus is 0", "/nowhere/secret", "/nowhere/ca.pem"] {
            assert_eq!(all.errors.iter().filter(|error| error.contains(part)).count(), 1, "{part} in {all}");
        }
        assert_eq!(all.errors.len(), 6, "{all}");
    }
}
