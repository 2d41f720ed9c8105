//! The credential file: `$HOME/.config/anteroom-demo/credentials.json`, readable only by its owner, replaced atomically.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

const FILE: &str = ".config/anteroom-demo/credentials.json";

/// The result of a sign-in. It has no `Debug`, so that it is not printed by accident.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    pub(crate) token_type: String,
    /// Seconds since 1970.
    pub(crate) expires_at: u64,
    /// The account's name.
    pub(crate) account: String,
    /// The project that a workspace account needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("HOME is not set, so the credential cannot be stored: set it to your home directory")]
    NoHome,
    #[error("{path:?} cannot be used ({source}): check that the directory is yours and the disk is not full")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path:?} is not a credential of this tool ({source}): run `anteroom-demo logout`, then `anteroom-demo login`"
    )]
    Format { path: PathBuf, source: serde_json::Error },
}

fn path() -> Result<PathBuf, FileError> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).ok_or(FileError::NoHome)?;
    Ok(PathBuf::from(home).join(FILE))
}

impl Credentials {
    /// The stored credential, if there is one.
    pub(crate) fn load() -> Result<Option<Self>, FileError> {
        let path = path()?;
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| FileError::Format { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Io { path, source }),
        }
    }

    /// Stores it: writes a new file to the disk, then renames it.
    pub(crate) fn store(&self) -> Result<(), FileError> {
        let path = path()?;
        let new = path.with_extension("json.new");
        let store = || -> io::Result<()> {
            if let Some(dir) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            }
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        store().map_err(|source| FileError::Io { path: path.clone(), source })
    }

    /// Whether it can be used at this time: it can be renewed, or has not expired.
    pub(crate) fn is_usable_at(&self, now_unix_s: u64) -> bool {
        !self.access_token.is_empty() && (self.refresh_token.is_some() || now_unix_s < self.expires_at)
    }
}

/// Removes the stored credential; `false` when there was none.
pub(crate) fn remove_credential_file() -> Result<bool, FileError> {
    let path = path()?;
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::Io { path, source }),
    }
}
