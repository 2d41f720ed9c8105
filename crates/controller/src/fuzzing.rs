//! Properties of the parsers of deliveries and desktops, for the fuzz targets: each function panics where one does not hold.

use crate::{
    credentials::read_expires_at,
    external,
    session::accept_delivery::validated::{FILES_MAX, check_paths},
};
use anteroom_wire::{
    agent::CredentialDelivery,
    guest_text::{GUEST_TEXT_BYTES_MAX, is_shown_unchanged},
    provider::{AccountSource, CredentialRules, ExpiresAt, FileFormat, TimeFormat},
};
use std::collections::HashSet;

/// The longest error text that may result.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// The rules of a provider whose credential has every kind of field.
fn rules(format: FileFormat, unit: TimeFormat) -> CredentialRules {
    CredentialRules {
        paths: vec![".tool/auth.json".into(), ".config/auth.json".into()],
        companions: vec![".tool/account.json".into()],
        format,
        required: vec!["/tokens/access".into(), "/expires".into()],
        text_matches: Some(r"(?m)^\s+oauth_token: \S+$".into()),
        expires_at: Some(ExpiresAt { pointer: "/expires".into(), unit }),
        account: Some(match format {
            FileFormat::Json => AccountSource::IdToken { pointer: "/tokens/id".into(), claim: "email".into() },
            FileFormat::Text => AccountSource::Pattern(r"(?m)^\s+user: (.*)$".into()),
        }),
        ..CredentialRules::default()
    }
}

/// The body of a delivery, or else the content of a file in it.
pub fn check_delivery(data: &[u8]) {
    let delivery = serde_json::from_slice::<CredentialDelivery>(data).ok();
    if let Some(delivery) = &delivery {
        let rules = rules(FileFormat::Json, TimeFormat::UnixMs);
        match check_paths(&rules, &delivery.files) {
            Ok(()) => {
                assert!(delivery.files.len() <= FILES_MAX);
                let paths: HashSet<_> = delivery.files.iter().map(|file| &file.path).collect();
                assert_eq!(paths.len(), delivery.files.len(), "a path is repeated");
                assert!(paths.iter().all(|path| rules.paths.contains(path) || rules.companions.contains(path)));
            }
            Err(error) => assert!(error.to_string().len() <= ERROR_BYTES_MAX),
        }
    }
    let first = delivery.as_ref().and_then(|delivery| delivery.files.first());
    check_file(first.map_or(data, |file| file.content.expose()));
}

fn check_file(content: &[u8]) {
    for format in [FileFormat::Json, FileFormat::Text] {
        for unit in [TimeFormat::UnixMs, TimeFormat::UnixS, TimeFormat::Rfc3339] {
            let rules = rules(format, unit);
            match rules.check_format(content) {
                Ok(()) => assert!(!content.trim_ascii().is_empty()),
                Err(fault) => assert!(fault.to_string().len() <= ERROR_BYTES_MAX, "{} bytes", fault.to_string().len()),
            }
            let expires_at = read_expires_at(&rules, content);
            assert!(expires_at.is_none() || serde_json::from_slice::<serde_json::Value>(content).is_ok());
            let account = rules.account.and_then(|account| account.read_from(content)).unwrap_or_default();
            assert!(account.len() <= GUEST_TEXT_BYTES_MAX && account.chars().all(is_shown_unchanged), "{account:?}");
        }
    }
}

/// What an external desktop answers: the first byte selects where the rest is cut in two.
pub fn check_desktop_answers(data: &[u8]) {
    external::fuzzing::check_answers(data);
}
