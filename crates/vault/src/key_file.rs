//! The key file: `{"version": 1, "keys": [{"id": 1, "created_unix_ms": …, "key": "<32 bytes in base64>"}]}`.
//!
//! It is created once, with mode 0600, as a temporary file that is renamed, so that it is never visible half-written. Every fault is
//! an error with its remedy, and nothing is repaired silently: a replaced key makes every stored credential unreadable.

use crate::{KeyId, LockedBytes, sealed::KEY_BYTES};
use anteroom_wire::{Base64, time::to_unix_ms};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};
use zeroize::Zeroizing;

const VERSION: u32 = 1;
/// A key file with a thousand keys is smaller than this.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A wrapping key of [`KEY_BYTES`] bytes.
pub(crate) type Key = LockedBytes;

/// Why the key file cannot be used, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It does not exist.
    #[error(
        "the key file {path} is missing. If the store has credentials, restore the file from its backup: without it they cannot be \
         read. If they may be lost, delete them first"
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
        "the key file {path} cannot be written; its directory must exist and belong to the account that runs the server"
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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u32,
    created_unix_ms: u64,
    key: Base64,
}

/// Reads all keys of the file; at least one.
pub(crate) fn read_keys(path: &Path) -> Result<BTreeMap<KeyId, Key>, KeyError> {
    let document = read_document(path)?;
    let mut keys = BTreeMap::new();
    for entry in &document.keys {
        let id = KeyId(entry.id);
        let bytes = entry.key.expose();
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::WrongLength { path: path.into(), key: id, bytes: bytes.len() });
        }
        let key = LockedBytes::copy_of(bytes).map_err(|errno| KeyError::NoMemory { source: errno.into() })?;
        if keys.insert(id, key).is_some() {
            return Err(malformed(path, format!("two keys have the number {id}")));
        }
    }
    if keys.is_empty() { Err(malformed(path, "it has no key".to_owned())) } else { Ok(keys) }
}

/// Creates the file with one random key. If another process creates it at the same time, that file stays.
pub(crate) fn create_key_file(path: &Path) -> Result<(), KeyError> {
    let document = Document { version: VERSION, keys: vec![new_entry(1)?] };
    let temporary = write_temporary(path, &document)?;
    match renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => sync_directory(path),
        Err(rustix::io::Errno::EXIST) => remove(path, &temporary),
        Err(errno) => {
            remove(path, &temporary)?;
            Err(KeyError::Unwritable { path: path.into(), source: errno.into() })
        }
    }
}

/// Adds a random key with the next number.
pub(crate) fn add_key(path: &Path) -> Result<(), KeyError> {
    read_keys(path)?;
    let mut document = read_document(path)?;
    let last = document.keys.iter().map(|entry| entry.id).max().unwrap_or(0);
    let next = last.checked_add(1).ok_or_else(|| malformed(path, "there is no number left for a key".to_owned()))?;
    document.keys.push(new_entry(next)?);
    let temporary = write_temporary(path, &document)?;
    if let Err(source) = std::fs::rename(&temporary, path) {
        remove(path, &temporary)?;
        return Err(KeyError::Unwritable { path: path.into(), source });
    }
    sync_directory(path)
}

fn read_document(path: &Path) -> Result<Document, KeyError> {
    let unreadable = |source: io::Error| KeyError::Unreadable { path: path.into(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing { path: path.into() }),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(malformed(path, "it is not a regular file".to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::WrongPermissions { path: path.into(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(path, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| {
        // The text of serde's error could contain a value.
        malformed(path, format!("not the expected JSON at line {} column {}", error.line(), error.column()))
    })?;
    if document.version != VERSION {
        return Err(malformed(path, format!("it has version {}, expected {VERSION}", document.version)));
    }
    Ok(document)
}

fn new_entry(id: u32) -> Result<Entry, KeyError> {
    let mut bytes = vec![0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(Entry { id, created_unix_ms: to_unix_ms(SystemTime::now()), key: Base64::new(bytes) })
}

/// Writes the document, flushed to the disk, under a new name in the same directory.
fn write_temporary(path: &Path, document: &Document) -> Result<PathBuf, KeyError> {
    let unwritable = |source: io::Error| KeyError::Unwritable { path: path.into(), source };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| KeyError::NoRandomness)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{:016x}", u64::from_ne_bytes(random)));
    let temporary = path.with_file_name(name);
    let text = Zeroizing::new(serde_json::to_vec_pretty(document).map_err(|error| unwritable(error.into()))?);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(temporary),
        Err(source) => {
            // The file may not exist; the first error is the one to return.
            let _ = std::fs::remove_file(&temporary);
            Err(unwritable(source))
        }
    }
}

fn remove(path: &Path, temporary: &Path) -> Result<(), KeyError> {
    std::fs::remove_file(temporary).map_err(|source| KeyError::Unwritable { path: path.into(), source })
}

/// Makes the rename durable.
fn sync_directory(path: &Path) -> Result<(), KeyError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| KeyError::Unwritable { path: path.into(), source })
}

fn malformed(path: &Path, why: String) -> KeyError {
    KeyError::Malformed { path: path.into(), why }
}
