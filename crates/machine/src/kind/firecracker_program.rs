//! The `firecracker` program of this host and whether its version is supported.

use crate::qemu;
use anteroom_firecracker::Version;
use std::path::{Path, PathBuf};

/// A supported Firecracker on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirecrackerProgram {
    /// Its path.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// Why this host has no usable Firecracker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirecrackerFailure {
    /// It is not installed.
    #[error(
        "firecracker is not in PATH: install a release from 1.12 to 1.16 \
         (https://github.com/firecracker-microvm/firecracker/releases)"
    )]
    NotInstalled,
    /// It does not run, or prints no version.
    #[error("{} does not run: {error}", path.display())]
    DoesNotRun {
        /// Its path.
        path: PathBuf,
        /// The error.
        error: String,
    },
    /// It is older than the supported versions.
    #[error("{} is Firecracker {version}, which is too old: install 1.12 to 1.16", path.display())]
    TooOld {
        /// Its path.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// It is newer than the supported versions.
    #[error("{} is Firecracker {version}, which is too new for this release of Anteroom: install 1.12 to 1.16", path.display())]
    TooNew {
        /// Its path.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
}

/// The first `firecracker` in `PATH`.
///
/// # Errors
/// See [`FirecrackerFailure`].
pub async fn find_firecracker() -> Result<FirecrackerProgram, FirecrackerFailure> {
    let path = qemu::find_program("firecracker").ok_or(FirecrackerFailure::NotInstalled)?;
    check(&path).await
}

async fn check(path: &Path) -> Result<FirecrackerProgram, FirecrackerFailure> {
    let path = path.to_owned();
    // "Firecracker v1.12.1"
    let version = match qemu::version_line(&path).await {
        Ok(line) => line.rsplit(' ').next().unwrap_or_default().parse::<Version>(),
        Err(error) => return Err(FirecrackerFailure::DoesNotRun { path, error: error.to_string() }),
    };
    match version {
        Err(error) => Err(FirecrackerFailure::DoesNotRun { path, error: error.to_string() }),
        Ok(version) if version.is_too_old() => Err(FirecrackerFailure::TooOld { path, version }),
        Ok(version) if version.is_too_new() => Err(FirecrackerFailure::TooNew { path, version }),
        Ok(version) => Ok(FirecrackerProgram { path, version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    async fn check_output(script: &str) -> Result<Version, FirecrackerFailure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("firecracker");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        check(&path).await.map(|program| program.version)
    }

    #[tokio::test]
    async fn only_versions_from_1_12_to_1_16_are_supported() {
        let printed =
            async |version: &str| check_output(&format!("printf 'Firecracker v{version}\\n\\nexiting\\n'")).await;
        for version in ["1.12.0", "1.12.1", "1.14.0", "1.16.9"] {
            assert_eq!(printed(version).await.unwrap().to_string(), version);
        }
        for version in ["0.25.2", "1.9.1", "1.11.9"] {
            let failure = printed(version).await.unwrap_err();
            assert!(matches!(failure, FirecrackerFailure::TooOld { .. }), "{failure}");
            assert!(failure.to_string().contains(version), "{failure}");
        }
        for version in ["1.17.0", "1.17.0-dev", "2.0.0"] {
            let failure = printed(version).await.unwrap_err();
            assert!(matches!(failure, FirecrackerFailure::TooNew { .. }), "{failure}");
        }
    }

    #[tokio::test]
    async fn program_that_prints_no_version_does_not_run() {
        for script in
            ["exit 1", "echo Firecracker", "echo Firecracker v1.12", "echo Firecracker v1.-2.3", "printf '\\377\\n'"]
        {
            let failure = check_output(script).await.unwrap_err();
            assert!(matches!(failure, FirecrackerFailure::DoesNotRun { .. }), "{script}: {failure}");
        }
    }
}
