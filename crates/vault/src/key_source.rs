//! Where the keys are.

use crate::TokenSettings;
use std::path::{Path, PathBuf};

/// Whether the key file may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Keys can be added and removed.
    ReadWrite,
    /// Another program provides the file.
    ReadOnly,
}

/// Where the keys are: a file, whose keys a PKCS#11 token may wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource {
    path: PathBuf,
    access: Access,
    token: Option<TokenSettings>,
}

impl KeySource {
    /// A file that belongs to the server.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::ReadWrite, token: None }
    }

    /// A file that the service manager provides, such as a systemd credential: it is never changed.
    pub fn read_only_file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::ReadOnly, token: None }
    }

    /// The keys in the file are wrapped by a key of this PKCS#11 token.
    #[must_use]
    pub fn wrapped_by(self, token: TokenSettings) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn token(&self) -> Option<&TokenSettings> {
        self.token.as_ref()
    }
}

/// One line for operators.
impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.access == Access::ReadOnly {
            f.write_str(" (read-only)")?;
        }
        self.token.as_ref().map_or(Ok(()), |token| write!(f, ", wrapped by the PKCS#11 token {:?}", token.token_label))
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for KeySource {
    fn from(path: &P) -> Self {
        Self::file(path.as_ref())
    }
}
