//! What ACME keeps in `acme/` of the state directory, for its owner only: the account, the certificate with its key, and the last failure.

use crate::unix_time;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The files.
#[derive(Debug, Clone)]
pub(super) struct AcmeFiles {
    dir: PathBuf,
}

/// An attempt to get a certificate that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// When, milliseconds since 1970.
    pub(super) at_ms: u64,
    /// What went wrong.
    pub(super) why: String,
    /// The next attempt, milliseconds since 1970.
    pub(super) next_at_ms: u64,
}

impl Failure {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let [at, next] = [self.at_ms, self.next_at_ms].map(unix_time::format_rfc3339);
        format!("the attempt to get one by ACME failed at {at}: {}; the next one is at {next} or at SIGHUP", self.why)
    }
}

impl AcmeFiles {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("acme") }
    }

    /// The certificate, those of its authorities, and its key, in one file: they are always of each other.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    pub(super) fn account(&self) -> PathBuf {
        self.dir.join("account.json")
    }

    fn failure_file(&self) -> PathBuf {
        self.dir.join("failure.json")
    }

    /// The last failure since the last success; `None`: none, or it cannot be read.
    pub(super) fn failure(&self) -> Option<Failure> {
        read_json(&self.failure_file()).ok()
    }

    pub(super) fn record_failure(&self, failure: &Failure) -> io::Result<()> {
        self.replace(&self.failure_file(), &serde_json::to_vec(failure)?)
    }

    pub(super) fn forget_failure(&self) -> io::Result<()> {
        match fs::remove_file(self.failure_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Replaces a file by one that only its owner can read, complete or not at all.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let part = path.with_extension("part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(part, path)
    }
}

/// What the file has, of which no copy stays in memory.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = Zeroizing::new(fs::read(path)?);
    serde_json::from_slice(&text).map_err(io::Error::other)
}
