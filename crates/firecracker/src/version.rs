//! Versions of Firecracker.

use std::{fmt, str::FromStr};

/// The oldest supported version.
pub const OLDEST_SUPPORTED: Version = Version::minor(1, 12);
/// The newest supported minor version, with all its patches.
pub const NEWEST_SUPPORTED: Version = Version::minor(1, 16);

/// The longest text that an error quotes, characters.
const QUOTED_CHARS_MAX: usize = 100;

/// A version of Firecracker, for example 1.12.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch.
    pub patch: u32,
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of Firecracker")]
pub struct VersionParseError(pub String);

impl FromStr for Version {
    type Err = VersionParseError;

    /// Parses `1.12.1`, with or without a leading `v` and a suffix such as `-dev`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || VersionParseError(text.chars().take(QUOTED_CHARS_MAX).collect());
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = numbers.split(['-', '+']).next().unwrap_or_default().split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self { major, minor, patch }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// The version `major.minor.0`.
    pub const fn minor(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Whether this version is older than all supported ones.
    pub fn is_too_old(self) -> bool {
        self < OLDEST_SUPPORTED
    }

    /// Whether this version is newer than all supported ones.
    pub fn is_too_new(self) -> bool {
        (self.major, self.minor) > (NEWEST_SUPPORTED.major, NEWEST_SUPPORTED.minor)
    }

    /// Whether `PUT /serial` exists. In older versions the serial port's output always goes to standard output.
    pub fn has_serial(self) -> bool {
        self >= Self::minor(1, 14)
    }

    /// Whether Firecracker creates the files for log and metrics. In older versions they must exist.
    pub fn creates_log_files(self) -> bool {
        self >= Self::minor(1, 14)
    }

    /// Whether `PUT /snapshot/load` can replace the path of the vsock socket. In older versions the snapshot's path is used.
    pub fn has_vsock_override(self) -> bool {
        self >= Self::minor(1, 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_parsed_with_and_without_prefix_and_suffix() {
        let expected = Version { major: 1, minor: 12, patch: 1 };
        assert_eq!([version("1.12.1"), version("v1.12.1"), version("1.12.1-dev")], [expected; 3]);
        for text in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.12.", "-1.2.3", "1.2.99999999999"] {
            assert_eq!(text.parse::<Version>(), Err(VersionParseError(text.into())));
        }
    }

    #[test]
    fn supported_versions_are_1_12_to_1_16() {
        for text in ["1.12.0", "1.12.1", "1.16.0", "1.16.9"] {
            assert!(!version(text).is_too_old() && !version(text).is_too_new(), "{text}");
        }
        assert!(version("1.11.9").is_too_old() && version("0.25.0").is_too_old());
        assert!(version("1.17.0").is_too_new() && version("2.0.0").is_too_new());
    }

    #[test]
    fn features_begin_with_their_version() {
        assert!(!version("1.13.2").has_serial() && version("1.14.0").has_serial());
        assert!(!version("1.13.2").creates_log_files() && version("1.14.0").creates_log_files());
        assert!(!version("1.15.1").has_vsock_override() && version("1.16.0").has_vsock_override());
    }
}
