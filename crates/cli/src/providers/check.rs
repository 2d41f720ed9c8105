//! `anteroom providers check`.

use super::super::{output::print_json, print_line};
use anteroom_controller::{
    config::Config,
    providers::{DescriptorError, DescriptorSource, load_descriptor_sources},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(super) fn run(config: &Config, which: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let (known, mut errors) = (load_descriptor_sources(config), Vec::new());
    let selected: Vec<Result<DescriptorSource, Vec<DescriptorError>>> = if which.is_empty() {
        known.into_values().collect()
    } else {
        which.iter().map(|which| find_descriptor(&known, which)).collect()
    };
    let mut valid = Vec::new();
    for source in selected {
        match source.and_then(|source| source.to_provider().map(|provider| (source.origin, provider))) {
            Ok((origin, provider)) => {
                if json {
                    valid.push(json!({ "provider": provider.id, "origin": origin.to_string() }));
                    continue;
                }
                print_line(format_args!("{}: valid ({origin})", provider.id));
                for (group, missing) in provider.incomplete_egress_groups() {
                    let (id, group, missing) = (&provider.id, group.as_str(), missing.join(", "));
                    print_line(format_args!(
                        "{id}: note: egress has a page of {group} and not what it needs: {missing}. Add \"{group}\" to egress_groups."
                    ));
                }
            }
            Err(found) => errors.extend(found),
        }
    }
    if json {
        let faults: Vec<String> = errors.iter().map(ToString::to_string).collect();
        print_json(&json!({ "valid": valid, "faults": faults }))?;
    } else {
        errors.iter().for_each(print_line);
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Finds the descriptor by file name or configured id.
pub(super) fn find_descriptor(
    known: &BTreeMap<String, Result<DescriptorSource, Vec<DescriptorError>>>,
    which: &str,
) -> Result<DescriptorSource, Vec<DescriptorError>> {
    let Some(path) = as_descriptor_path(which) else {
        let (names, unread): (Vec<_>, Vec<_>) = known.iter().partition(|(name, _)| as_descriptor_path(name).is_none());
        // A directory that cannot be read may contain a descriptor with this id.
        if let Some((_, Err(errors))) = unread.first() {
            return Err(errors.clone());
        }
        let names: Vec<&str> = names.into_iter().map(|(name, _)| name.as_str()).collect();
        let unknown = || {
            vec![DescriptorError::for_file(
                which,
                format!("is neither a file (*.toml) nor one of {}", names.join(", ")),
            )]
        };
        return known.get(which).cloned().unwrap_or_else(|| Err(unknown()));
    };
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| vec![DescriptorError::for_file(which, format!("cannot be read: {error}"))])?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    DescriptorSource::parse_toml(&name, which.to_owned(), text)
}

/// The path, if the argument is not an id: it has a slash or ends with `.toml`.
pub(super) fn as_descriptor_path(which: &str) -> Option<PathBuf> {
    let path = Path::new(which);
    let is_file = which.contains('/') || path.extension().is_some_and(|extension| extension == "toml");
    is_file.then(|| path.to_owned())
}
