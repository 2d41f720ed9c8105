//! The key file: `{"version": 1, "keys": [{"id": 1, "created_unix_ms": …, "key": "<32 bytes in base64>"}]}`. In version 2 each key is
//! wrapped by a PKCS#11 token. `"row_macs": true`: the rows of the database have MACs since the server first used it with them;
//! `"session_macs": true`: the rows of sessions, too.
//!
//! It is created once, with mode 0600. Every change writes a temporary file, flushes it, renames it and flushes the directory, so
//! that the file is never visible half-written and a new key is durable before it is used. Every fault is an error with its remedy,
//! and nothing is repaired silently: a replaced key makes every stored credential unreadable.

use crate::{
    KeyError, KeyId, LockedBytes, Token,
    key_source::{Access, KeySource},
    sealed::KEY_BYTES,
};
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

/// The version whose keys are plain.
const PLAIN: u32 = 1;
/// The version whose keys are wrapped by a PKCS#11 token.
const WRAPPED: u32 = 2;
/// A key file with a thousand keys is smaller than this.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A wrapping key of [`KEY_BYTES`] bytes.
#[derive(Debug)]
pub(crate) struct Key {
    /// The key.
    pub(crate) bytes: LockedBytes,
    /// When it was created, milliseconds since 1970.
    pub(crate) created_unix_ms: u64,
}

/// The keys of a file, by number.
pub(crate) type Keys = BTreeMap<KeyId, Key>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    row_macs: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    session_macs: bool,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u32,
    created_unix_ms: u64,
    key: Base64,
}

/// Reads all keys; at least one. Plain keys are wrapped in the file when a token is configured.
pub(crate) fn read_keys(source: &KeySource) -> Result<Keys, KeyError> {
    let path = source.path();
    let document = read_document(source)?;
    let token = source.token().map(Token::open).transpose()?;
    let keys = match (document.version, &token) {
        (PLAIN, None) => decode_keys(path, &document, |_, bytes| Ok(Zeroizing::new(bytes.to_vec())))?,
        (PLAIN, Some(token)) => {
            let keys = decode_keys(path, &document, |_, bytes| Ok(Zeroizing::new(bytes.to_vec())))?;
            if source.access() == Access::ReadOnly {
                return Err(KeyError::NotWrapped { path: path.into() });
            }
            let wrapped = encode_keys(&keys, Some(token))?;
            let Document { row_macs, session_macs, .. } = document;
            replace_file(path, &Document { row_macs, session_macs, ..wrapped })?;
            keys
        }
        (WRAPPED, Some(token)) => decode_keys(path, &document, |id, wrapped| Ok(token.unwrap_key(id, wrapped)?))?,
        (WRAPPED, None) => return Err(KeyError::TokenNotConfigured { path: path.into() }),
        (version, _) => {
            return Err(malformed(path, format!("it has version {version}, expected {PLAIN} or {WRAPPED}")));
        }
    };
    if keys.is_empty() { Err(malformed(path, "it has no key".to_owned())) } else { Ok(keys) }
}

/// Creates the file with one random key. If another process creates it at the same time, that file stays.
pub(crate) fn create_key_file(source: &KeySource) -> Result<(), KeyError> {
    let path = source.path();
    if source.access() == Access::ReadOnly {
        return Err(KeyError::Missing { path: path.into() });
    }
    let token = source.token().map(Token::open).transpose()?;
    let keys = Keys::from([(KeyId(1), new_key()?)]);
    let temporary = write_temporary(path, &encode_keys(&keys, token.as_ref())?)?;
    match renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => sync_directory(path),
        Err(rustix::io::Errno::EXIST) => remove(path, &temporary),
        Err(errno) => {
            remove(path, &temporary)?;
            Err(KeyError::Unwritable { path: path.into(), source: errno.into() })
        }
    }
}

/// Adds a random key with the next number, durably, and returns all keys.
pub(crate) fn add_key(source: &KeySource) -> Result<Keys, KeyError> {
    let path = require_writable(source)?;
    let mut keys = read_keys(source)?;
    let last = keys.keys().next_back().copied().unwrap_or(KeyId(0));
    let next = last.0.checked_add(1).ok_or_else(|| malformed(path, "there is no number left for a key".to_owned()))?;
    keys.insert(KeyId(next), new_key()?);
    write_keys(source, &keys)?;
    Ok(keys)
}

/// Removes a key, durably, overwrites the bytes of the previous file, and returns the remaining keys. A key that is not in the file
/// counts as removed.
pub(crate) fn remove_key(source: &KeySource, id: KeyId) -> Result<Keys, KeyError> {
    require_writable(source)?;
    let mut keys = read_keys(source)?;
    if keys.keys().next_back() == Some(&id) {
        return Err(KeyError::PrimaryKey(id));
    }
    if keys.remove(&id).is_some() {
        write_keys(source, &keys)?;
    }
    Ok(keys)
}

pub(crate) fn require_writable(source: &KeySource) -> Result<&Path, KeyError> {
    match source.access() {
        Access::ReadWrite => Ok(source.path()),
        Access::ReadOnly => Err(KeyError::ReadOnly { path: source.path().into() }),
    }
}

fn write_keys(source: &KeySource, keys: &Keys) -> Result<(), KeyError> {
    let Document { row_macs, session_macs, .. } = read_document(source)?;
    let token = source.token().map(Token::open).transpose()?;
    let keys = encode_keys(keys, token.as_ref())?;
    replace_file(source.path(), &Document { row_macs, session_macs, ..keys })
}

/// Whether the rows of the database have MACs.
pub(crate) fn is_marked_for_row_macs(source: &KeySource) -> Result<bool, KeyError> {
    Ok(read_document(source)?.row_macs)
}

/// Whether the rows of sessions have MACs, too.
pub(crate) fn is_marked_for_session_macs(source: &KeySource) -> Result<bool, KeyError> {
    Ok(read_document(source)?.session_macs)
}

/// Writes durably that all rows of the database have MACs.
pub(crate) fn mark_for_row_macs(source: &KeySource) -> Result<(), KeyError> {
    let path = require_writable(source)?;
    let document = read_document(source)?;
    if document.row_macs && document.session_macs {
        return Ok(());
    }
    replace_file(path, &Document { row_macs: true, session_macs: true, ..document })
}

fn decode_keys(
    path: &Path,
    document: &Document,
    unwrap: impl Fn(KeyId, &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError>,
) -> Result<Keys, KeyError> {
    let mut keys = Keys::new();
    for entry in &document.keys {
        let id = KeyId(entry.id);
        let bytes = unwrap(id, entry.key.expose())?;
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::WrongLength { path: path.into(), key: id, bytes: bytes.len() });
        }
        let bytes = LockedBytes::copy_of(&bytes).map_err(|errno| KeyError::NoMemory { source: errno.into() })?;
        if keys.insert(id, Key { bytes, created_unix_ms: entry.created_unix_ms }).is_some() {
            return Err(malformed(path, format!("two keys have the number {id}")));
        }
    }
    Ok(keys)
}

/// A key file without marks.
fn encode_keys(keys: &Keys, token: Option<&Token>) -> Result<Document, KeyError> {
    let entry = |(id, key): (&KeyId, &Key)| {
        let bytes = match token {
            Some(token) => token.wrap_key(*id, &key.bytes)?,
            None => key.bytes.to_vec(),
        };
        Ok(Entry { id: id.0, created_unix_ms: key.created_unix_ms, key: Base64::new(bytes) })
    };
    let keys = keys.iter().map(entry).collect::<Result<_, KeyError>>()?;
    let version = if token.is_some() { WRAPPED } else { PLAIN };
    Ok(Document { version, row_macs: false, session_macs: false, keys })
}

fn read_document(source: &KeySource) -> Result<Document, KeyError> {
    let path = source.path();
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
    // systemd shows the access list of a credential as the permissions of its group.
    let others = if source.access() == Access::ReadOnly { 0o037 } else { 0o077 };
    if mode & others != 0 {
        return Err(KeyError::WrongPermissions { path: path.into(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(path, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| {
        // The text of serde's error could contain a value.
        malformed(path, format!("not the expected JSON at line {} column {}", error.line(), error.column()))
    })
}

fn new_key() -> Result<Key, KeyError> {
    let mut bytes = LockedBytes::zeroed(KEY_BYTES).map_err(|errno| KeyError::NoMemory { source: errno.into() })?;
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(Key { bytes, created_unix_ms: to_unix_ms(SystemTime::now()) })
}

/// Replaces the file durably. Then the bytes of the previous file are overwritten, best effort: copies of them may remain in a
/// journal, in a snapshot or in the reserved blocks of a disk.
fn replace_file(path: &Path, document: &Document) -> Result<(), KeyError> {
    let previous = OpenOptions::new().write(true).open(path);
    let temporary = write_temporary(path, document)?;
    if let Err(source) = std::fs::rename(&temporary, path) {
        remove(path, &temporary)?;
        return Err(KeyError::Unwritable { path: path.into(), source });
    }
    sync_directory(path)?;
    if let Ok(mut previous) = previous {
        let bytes = previous.metadata().map_or(0, |metadata| metadata.len().min(FILE_BYTES_MAX));
        let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let _ = previous.write_all(&zeros).and_then(|()| previous.sync_all());
    }
    Ok(())
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

/// Removes the temporary files that an interrupted change has left; they contain keys.
pub(crate) fn remove_temporary_files(source: &KeySource) {
    let path = source.path();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let prefix = format!("{name}.new-");
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            // The next start tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
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
