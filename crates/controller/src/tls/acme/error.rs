//! Why no certificate was obtained.

use crate::{https_client::ClientSetupError, tls::TlsError};
use instant_acme::Error;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why no certificate was obtained. None has a secret.
#[derive(Debug, thiserror::Error)]
pub(in crate::tls) enum AcmeError {
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(ClientSetupError),
    /// The directory does not answer.
    #[error("the ACME directory {url} cannot be reached")]
    Unreachable { url: String, source: Error },
    /// The authority refuses the account.
    #[error("the account at the ACME directory")]
    Account(#[source] Error),
    /// The authority refuses the order.
    #[error("the order of the certificate")]
    Order(#[source] Error),
    /// Without a reason.
    #[error("the authority could not check the names and says not why")]
    Invalid,
    /// A name cannot be checked.
    #[error("the authority could not check {name} at its port 443: {why}")]
    Refused { name: String, why: String },
    /// The authority checks in other ways only.
    #[error("the authority does not offer TLS-ALPN-01 for {0}")]
    NoChallenge(String),
    /// The certificate for a challenge.
    #[error("the certificate for the challenge")]
    Challenge(#[from] rcgen::Error),
    /// Of the TLS library.
    #[error("the certificate for the challenge")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate cannot be used.
    #[error("what the authority issued cannot be used")]
    Unusable(#[from] TlsError),
    /// A file.
    #[error("{} cannot be read or written", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl AcmeError {
    /// Of a step that reads the directory first.
    pub(super) fn directory(url: &str) -> impl FnOnce(Error) -> Self {
        let url = url.to_owned();
        |source| {
            if matches!(source, Error::Api(_)) { Self::Account(source) } else { Self::Unreachable { url, source } }
        }
    }

    /// Of a file.
    pub(in crate::tls) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}
