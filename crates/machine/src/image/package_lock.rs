//! The lock of the image's Debian packages: `image/packages.lock`, embedded in the binary.
//!
//! ```text
//!  packages.lock ─▶ preferences of apt: a locked version is installed as long as the mirror has it
//!  installed packages, the mirror's signed lists ─▶ differences: reported, or an error of the build
//! ```
//!
//! A line has a package's name, its version and the SHA-256 of its file, separated by blanks. Lines that begin with `#` are comments.

use super::Manifest;
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Read},
};

const TEXT: &str = include_str!("../../../../image/packages.lock");

/// The longest line of a package list that is read, bytes; a list of dependencies may be long.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// The locked packages by name: version and SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageLock(BTreeMap<String, (String, String)>);

/// SHA-256 (hex) of packages by name and version.
pub(super) type PackageHashes = BTreeMap<(String, String), String>;

/// How an image's package differs from the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageDifference {
    /// Another version.
    Version {
        /// The package.
        name: String,
        /// The locked version.
        locked: String,
        /// The version in the image.
        found: String,
    },
    /// The same version with another content.
    Content {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// The lock does not have it.
    Added {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// The image does not have it.
    Removed {
        /// The package.
        name: String,
        /// The locked version.
        version: String,
    },
}

impl fmt::Display for PackageDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { name, locked, found } => write!(f, "{name}: {found} instead of {locked}"),
            Self::Content { name, version } => write!(f, "{name}: {version} has another content than the locked one"),
            Self::Added { name, version } => write!(f, "{name}: {version} is not in the lock"),
            Self::Removed { name, version } => write!(f, "{name}: {version} is in the lock and not in the image"),
        }
    }
}

impl PackageLock {
    /// The lock of this binary.
    pub(super) fn embedded() -> Self {
        Self::parse(TEXT)
    }

    /// Parses a lock; lines without three words are ignored.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let packages = lines.filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.to_owned(), (words.next()?.to_owned(), words.next()?.to_owned())))
        });
        Self(packages.collect())
    }

    /// The text of the lock, for the hash of an image's inputs.
    pub(super) fn text() -> &'static str {
        TEXT
    }

    /// Preferences of apt (apt_preferences(5)): the locked versions come first, any other is installed only if the mirror no longer has
    /// the locked one.
    pub(super) fn to_preferences(&self) -> String {
        let pin = |(name, (version, _)): (&String, &(String, String))| {
            format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n")
        };
        self.0.iter().map(pin).collect()
    }

    /// How `packages` (name → version) with these hashes (name → SHA-256) differ from the lock.
    pub(super) fn differences(
        &self,
        packages: &BTreeMap<String, String>,
        hashes: &BTreeMap<String, String>,
    ) -> Vec<PackageDifference> {
        let of_installed = packages.iter().filter_map(|(name, version)| {
            let (name, version) = (name.clone(), version.clone());
            match self.0.get(&name) {
                None => Some(PackageDifference::Added { name, version }),
                Some((locked, _)) if *locked != version => {
                    Some(PackageDifference::Version { name, locked: locked.clone(), found: version })
                }
                Some((_, sha256)) if hashes.get(&name) != Some(sha256) => {
                    Some(PackageDifference::Content { name, version })
                }
                Some(_) => None,
            }
        });
        let removed =
            self.0.iter().filter(|(name, _)| !packages.contains_key(*name)).map(|(name, (version, _))| {
                PackageDifference::Removed { name: name.clone(), version: version.clone() }
            });
        of_installed.chain(removed).collect()
    }
}

/// How the packages of an image differ from the lock of this binary.
pub fn package_differences(manifest: &Manifest) -> Vec<PackageDifference> {
    PackageLock::embedded().differences(&manifest.packages, &manifest.package_sha256)
}

/// The packages of an image as a lock.
pub fn to_package_lock(manifest: &Manifest) -> String {
    let mut text =
        String::from("# The Debian packages of the image: name, version, SHA-256. Written by `anteroom image lock`.\n");
    for (name, version) in &manifest.packages {
        if let Some(sha256) = manifest.package_sha256.get(name) {
            text.push_str(&format!("{name} {version} {sha256}\n"));
        }
    }
    text
}

/// Adds the hashes in one of apt's package lists (`…_Packages`), whose signature apt has checked.
///
/// # Errors
/// The list cannot be read.
pub(super) fn read_package_list(list: impl Read, hashes: &mut PackageHashes) -> io::Result<()> {
    let mut list = io::BufReader::with_capacity(1 << 16, list);
    let (mut name, mut version, mut sha256) = (None, None, None);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut list).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            if let (Some(name), Some(version), Some(sha256)) = (name.take(), version.take(), sha256.take()) {
                hashes.insert((name, version), sha256);
            }
            if count == 0 {
                return Ok(());
            }
        } else if let Some(value) = text.strip_prefix("Package: ") {
            name = Some(value.to_owned());
        } else if let Some(value) = text.strip_prefix("Version: ") {
            version = Some(value.to_owned());
        } else if let Some(value) = text.strip_prefix("SHA256: ") {
            sha256 = Some(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn each_kind_of_difference_is_reported() {
        let lock = PackageLock::parse("# comment\na 1 aa\nb 1:2 bb\nc 3 cc\nd 4 dd\n\n");
        let packages = map(&[("a", "1"), ("b", "1:3"), ("c", "3"), ("e", "5")]);
        let found = lock.differences(&packages, &map(&[("a", "aa"), ("b", "xx"), ("c", "yy"), ("e", "ee")]));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "b: 1:3 instead of 1:2",
                "c: 3 has another content than the locked one",
                "e: 5 is not in the lock",
                "d: 4 is in the lock and not in the image",
            ]
        );
        let whole = map(&[("a", "1"), ("b", "1:2"), ("c", "3"), ("d", "4")]);
        let hashes = map(&[("a", "aa"), ("b", "bb"), ("c", "cc"), ("d", "dd")]);
        assert_eq!(lock.differences(&whole, &hashes), []);
    }

    #[test]
    fn locked_versions_are_preferred_by_apt() {
        let lock = PackageLock::parse("libc6 2.41-12 aa\n");
        assert_eq!(lock.to_preferences(), "Package: libc6\nPin: version 2.41-12\nPin-Priority: 1001\n\n");
    }

    #[test]
    fn package_list_of_apt_is_read() {
        let list = "Package: a\nVersion: 1\nDepends: b,\n c\nSHA256: aa\nDescription: x\n\nPackage: b\nVersion: 2\nSHA256: bb\n";
        let mut hashes = PackageHashes::new();
        read_package_list(list.as_bytes(), &mut hashes).unwrap();
        let of = |name: &str, version: &str| hashes.get(&(name.to_owned(), version.to_owned())).map(String::as_str);
        assert_eq!((of("a", "1"), of("b", "2"), hashes.len()), (Some("aa"), Some("bb"), 2));
    }

    #[test]
    fn embedded_lock_has_every_package_of_the_recipe_with_a_hash() {
        let PackageLock(packages) = PackageLock::embedded();
        let recipe = super::super::recipe::Recipe::parse_embedded().unwrap();
        for name in &recipe.packages {
            assert!(packages.contains_key(name), "{name} is not in image/packages.lock");
        }
        for (name, (version, sha256)) in &packages {
            assert!(!version.is_empty() && sha256.len() == 64, "{name}");
        }
    }
}
