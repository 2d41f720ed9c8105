//! The files that the settings name: everything that the server would refuse when it starts.

use super::Config;
use crate::{api_error::chain, egress, providers::Providers};
use std::collections::BTreeSet;

/// One sentence for each fault. What is wrong with the settings themselves is not repeated.
pub(super) fn file_errors(config: &Config) -> Vec<String> {
    let mut errors = BTreeSet::new();
    errors.extend(Providers::load(config).err().unwrap_or_default());
    errors.extend(config.webhook.file_errors());
    errors.extend(egress::extra_ca_pem(config).err().map(|error| chain(&error)));
    if config.egress.validation_errors().is_empty() {
        errors.extend(egress::open_proxy(config).err().map(|error| chain(&error)));
    }
    if config.oidc.issuer.is_some() {
        errors.extend(config.oidc.read_secret().err().map(|error| chain(&error)));
    }
    errors.into_iter().collect()
}
