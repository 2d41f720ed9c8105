//! What is wrong with a certificate or its key.

use std::{io, path::PathBuf};

/// Why a certificate cannot be used; names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key can be read by others.
    #[error("the key {} has mode {mode:04o}: users outside of its group can read it, or its group can change it; run `chmod 640 {}`", path.display(), path.display())]
    KeyReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no certificate.
    #[error("{} contains no certificate in PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no key.
    #[error("{} contains no private key in PEM, or an encrypted one", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate or the key is malformed.
    #[error("{} cannot be used: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("the key {} is not that of the first certificate in {}", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// It is not valid any more.
    #[error("the certificate {} has expired at {at}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The end of its validity.
        at: String,
    },
    /// It is not valid yet.
    #[error("the certificate {} is not valid before {at}: is this host's clock right?", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The begin of its validity.
        at: String,
    },
    /// It is for other hosts.
    #[error("the certificate {} is not for {host}, the host of public_url", path.display())]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// The host of `public_url`.
        host: String,
    },
}
