//! Why the keys cannot be used.

use crate::{KeyId, TokenError, sealed::KEY_BYTES};
use std::{io, path::PathBuf};

/// Why the key file cannot be used, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It does not exist.
    #[error(
        "the key file {path} is missing. If the store has credentials, restore the file from its backup: without it they cannot be \
         read. If they may be lost, delete them first. A further host of a cluster needs the key file of the others"
    )]
    Missing {
        /// The path of the file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the key file {path} cannot be read; the account that runs the server must own it, with mode 0600")]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "the key file {path} has mode {mode:04o}: other users can access it; run `chmod 600 {path}`, and rotate the key if it may have \
         been read"
    )]
    WrongPermissions {
        /// The path of the file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is malformed.
    #[error("the key file {path} is malformed ({why}); restore it from its backup")]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong, without key material.
        why: String,
    },
    /// A key does not have 256 bits.
    #[error(
        "key {key} in the key file {path} has {bytes} bytes instead of {KEY_BYTES}; restore the file from its backup"
    )]
    WrongLength {
        /// The path of the file.
        path: PathBuf,
        /// The key's number.
        key: KeyId,
        /// Its bytes.
        bytes: usize,
    },
    /// It cannot be written.
    #[error(
        "the key file {path} cannot be written; its directory must exist and belong to the account that runs the server, as the state \
         directory does, where it is without vault.key_file"
    )]
    Unwritable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system returned no random bytes for a new key.
    #[error("the operating system returned no random bytes for a new key")]
    NoRandomness,
    /// There is no memory for the keys.
    #[error("there is no memory for the keys")]
    NoMemory {
        /// The cause.
        source: io::Error,
    },
    /// The keys are not those with which the database was used.
    #[error(
        "the key file has other keys than those with which this database was used ({stored}); restore the right key file, or \
         configure the database that belongs to this one"
    )]
    FingerprintMismatch {
        /// The fingerprint stored in the database.
        stored: String,
    },
    /// The keys are in a file that the server cannot change.
    #[error(
        "the keys are in the credential {path}, which the server cannot change: run `anteroom keys rotate --key-file FILE` (or \
         `retire`) on the file from which the service manager loads it, then restart the server; it rewraps the records by itself"
    )]
    ReadOnly {
        /// The path of the file.
        path: PathBuf,
    },
    /// The file has wrapped keys, and no PKCS#11 token is configured.
    #[error(
        "the keys in {path} are wrapped by a PKCS#11 token, and the configuration names none; set vault.pkcs11_module and the other \
         vault.pkcs11_… settings"
    )]
    TokenNotConfigured {
        /// The path of the file.
        path: PathBuf,
    },
    /// The file has plain keys, a PKCS#11 token is configured, and the file cannot be changed.
    #[error(
        "the keys in {path} are not wrapped by the configured PKCS#11 token, and the server cannot change this file; wrap them with \
         `anteroom keys list --key-file FILE` on the file from which it is made"
    )]
    NotWrapped {
        /// The path of the file.
        path: PathBuf,
    },
    /// The token that wraps the keys cannot be used.
    #[error("the PKCS#11 token cannot be used")]
    Token(#[from] TokenError),
    /// There is no such key.
    #[error("there is no key {0}; `anteroom keys list` shows the keys")]
    UnknownKey(KeyId),
    /// The key seals new records.
    #[error("key {0} is the primary key, which seals new records; run `anteroom keys rotate` first")]
    PrimaryKey(KeyId),
}
