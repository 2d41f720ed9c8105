//! Decides whether a build accepts packages that differ from the lock.

use super::{
    build_error::BuildError,
    build_settings::BuildSettings,
    package_lock::{PackageDifference, PackageLock},
};
use std::collections::BTreeMap;

/// Checks packages (name → version) with these hashes (name → SHA-256), those of a new image and those of a cached one. Another content of a
/// locked version is always an error: a version is built once.
///
/// # Errors
/// [`BuildError::PackagesDiffer`].
pub(super) fn check_packages(
    lock: &PackageLock,
    settings: &BuildSettings,
    packages: &BTreeMap<String, String>,
    hashes: &BTreeMap<String, String>,
) -> Result<(), BuildError> {
    let is_error = |difference: &PackageDifference| match difference {
        PackageDifference::Content { .. } => true,
        // The lock does not know what an operator adds.
        PackageDifference::Added { .. } => settings.require_locked_packages && settings.extra_packages.is_empty(),
        PackageDifference::Version { .. } | PackageDifference::Removed { .. } => settings.require_locked_packages,
    };
    let differences: Vec<_> = lock.differences(packages, hashes).into_iter().filter(is_error).collect();
    if differences.is_empty() { Ok(()) } else { Err(BuildError::PackagesDiffer { differences }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn another_content_is_always_an_error_and_drift_is_one_where_the_lock_is_required() {
        let lock = PackageLock::parse("a 1 aa\nb 2 bb\n");
        let mut settings = BuildSettings::new("images".into(), "agent".into(), "demo".into());
        let is_error = |settings: &BuildSettings, packages: &[(&str, &str)], hashes: &[(&str, &str)]| {
            check_packages(&lock, settings, &map(packages), &map(hashes)).is_err()
        };
        let (packages, hashes) = ([("a", "1"), ("b", "2")], [("a", "aa"), ("b", "bb")]);
        let newer = [("a", "1"), ("b", "3")];
        let added = [("a", "1"), ("b", "2"), ("c", "1")];
        for (required, drift_is_error) in [(false, false), (true, true)] {
            settings.require_locked_packages = required;
            assert!(!is_error(&settings, &packages, &hashes), "{required}");
            assert!(is_error(&settings, &packages, &[("a", "aa"), ("b", "xx")]), "{required}: another content");
            assert!(is_error(&settings, &packages, &hashes[..1]), "{required}: no hash");
            assert_eq!(is_error(&settings, &newer, &hashes), drift_is_error, "another version");
            assert_eq!(is_error(&settings, &packages[..1], &hashes), drift_is_error, "a removed package");
            assert_eq!(is_error(&settings, &added, &hashes), drift_is_error, "a package that is not in the lock");
        }
        settings.extra_packages = vec!["c".to_owned()];
        assert!(!is_error(&settings, &added, &hashes), "a package that the operator adds");
    }
}
