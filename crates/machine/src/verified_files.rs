//! Verifies the contents of files by their hashes, each content once: a file whose inode, size and times are those of an earlier
//! verification is not read again. What was verified is kept in a file, so that it holds for the next process too.

use parking_lot::Mutex;
use rustix::fs::SeekFrom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that are read at a time; in a sparse file, the unit that is skipped if it is zero.
const CHUNK_BYTES: usize = 1 << 20;

/// Identifies a content of a file without reading it: a change of the content changes one of these (stat(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
    changed_s: i64,
    changed_ns: i64,
}

impl FileStamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// The file cannot be inspected.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        })
    }
}

/// What is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HashKind {
    /// The whole content (SHA-256).
    Content,
    /// The size, and the offset and content of each mebibyte that is not all zero (SHA-256). Holes are not read.
    SparseContent,
}

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Its content has another hash.
    #[error("{path:?} was changed: its content has the hash {found}, not {expected}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// The hash that it should have.
        expected: String,
        /// The hash that it has.
        found: String,
    },
    /// It was written while it was read.
    #[error("{path:?} is being changed")]
    BeingChanged {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Verified {
    stamp: FileStamp,
    kind: HashKind,
    sha256: String,
}

/// The files that were verified.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedFiles {
    list: PathBuf,
    known: Arc<Mutex<BTreeMap<PathBuf, Verified>>>,
}

impl VerifiedFiles {
    /// Reads the list of an earlier process; without a readable list, every file is read again.
    pub(crate) fn open(list: PathBuf) -> Self {
        let known = fs::read(&list).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { list, known: Arc::new(Mutex::new(known)) }
    }

    /// Verifies the content of a file. Blocks while the file is read, which takes a second for each gigabyte.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub(crate) fn verify(&self, path: &Path, kind: HashKind, expected: &str) -> Result<FileStamp, VerifyError> {
        let read = |source| VerifyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let stamp = FileStamp::of(&file).map_err(read)?;
        let is_expected = Verified { stamp, kind, sha256: expected.to_owned() };
        if self.known.lock().get(path) == Some(&is_expected) {
            return Ok(stamp);
        }
        let found = hash(&file, kind).map_err(read)?;
        if FileStamp::of(&file).map_err(read)? != stamp {
            return Err(VerifyError::BeingChanged { path: path.to_owned() });
        }
        if found != expected {
            return Err(VerifyError::Changed { path: path.to_owned(), expected: expected.to_owned(), found });
        }
        self.remember(path, is_expected);
        Ok(stamp)
    }

    fn remember(&self, path: &Path, verified: Verified) {
        let mut known = self.known.lock();
        known.retain(|path, _| path.exists());
        known.insert(path.to_owned(), verified);
        let temporary = self.list.with_extension(format!("{}", std::process::id()));
        let text = serde_json::to_vec(&*known).unwrap_or_default();
        // Without the list, the next process reads the files again.
        if fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &self.list)).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
}

/// The hash of a file's content, hexadecimal.
pub(crate) fn hash(file: &File, kind: HashKind) -> io::Result<String> {
    let bytes = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    if kind == HashKind::SparseContent {
        hash.update(bytes.to_le_bytes());
    }
    while let Some(next) = next_chunk(file, kind, offset, bytes)? {
        let length = usize::try_from(bytes - next).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let Some(content) = chunk.get_mut(..length) else { break };
        file.read_exact_at(content, next)?;
        match kind {
            HashKind::Content => hash.update(&*content),
            HashKind::SparseContent if content.iter().all(|byte| *byte == 0) => {}
            HashKind::SparseContent => {
                hash.update(next.to_le_bytes());
                hash.update(&*content);
            }
        }
        offset = next + CHUNK_BYTES as u64;
    }
    Ok(hex::encode(hash.finalize()))
}

/// The offset of the next chunk at or after `offset` that is to be read.
fn next_chunk(file: &File, kind: HashKind, offset: u64, bytes: u64) -> io::Result<Option<u64>> {
    if offset >= bytes {
        return Ok(None);
    }
    match kind {
        HashKind::Content => Ok(Some(offset)),
        HashKind::SparseContent => match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data - data % CHUNK_BYTES as u64)),
            // No data follows.
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn write_sparse(path: &Path, content: &[(u64, &[u8])], bytes: u64) -> File {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
        for (offset, bytes) in content {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    #[test]
    fn hash_of_a_sparse_file_does_not_depend_on_its_holes_but_on_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = 5 * CHUNK_BYTES as u64 + 7;
        let sparse_hash = |name: &str, content: &[(u64, &[u8])], bytes| {
            hash(&write_sparse(&dir.path().join(name), content, bytes), HashKind::SparseContent).unwrap()
        };
        let offset = 3 * CHUNK_BYTES as u64 + 11;
        let holes = sparse_hash("a", &[(offset, b"x"), (bytes - 1, b"y")], bytes);
        let zeros = vec![0; 2 * CHUNK_BYTES];
        assert_eq!(sparse_hash("b", &[(0, &zeros), (offset, b"x"), (bytes - 1, b"y")], bytes), holes);
        for (content, bytes) in [
            (vec![(offset, &b"z"[..]), (bytes - 1, b"y")], bytes),
            (vec![(offset + CHUNK_BYTES as u64, &b"x"[..]), (bytes - 1, b"y")], bytes),
            (vec![(offset, &b"x"[..])], bytes),
            (vec![(offset, &b"x"[..]), (bytes - 1, b"y")], bytes + 1),
        ] {
            assert_ne!(sparse_hash("c", &content, bytes), holes, "{content:?}");
        }
        let text = write_sparse(&dir.path().join("d"), &[(0, b"abc")], 3);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&text, HashKind::Content).unwrap(), sha256);
    }

    #[test]
    fn flipped_byte_is_found_although_size_and_modification_time_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = write_sparse(&path, &[(5, b"content")], 100);
        let expected = hash(&file, HashKind::Content).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let verified = VerifiedFiles::open(dir.path().join("list"));
        let stamp = verified.verify(&path, HashKind::Content, &expected).unwrap();
        assert_eq!(verified.verify(&path, HashKind::Content, &expected).unwrap(), stamp);
        // The times of a file have the granularity of the kernel's clock tick.
        let before = FileStamp::of(&file).unwrap();
        while FileStamp::of(&file).unwrap() == before {
            file.write_all_at(b"C", 5).unwrap();
            file.set_modified(modified).unwrap();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        for verified in [verified, VerifiedFiles::open(dir.path().join("list"))] {
            let error = verified.verify(&path, HashKind::Content, &expected).unwrap_err();
            assert!(matches!(error, VerifyError::Changed { .. }), "{error:?}");
            assert!(error.to_string().contains("was changed"), "{error}");
        }
    }

    #[test]
    fn verified_file_is_not_read_again_even_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = write_sparse(&path, &[(0, b"content")], 100);
        let sha256 = hash(&file, HashKind::SparseContent).unwrap();
        let list = dir.path().join("list");
        VerifiedFiles::open(list.clone()).verify(&path, HashKind::SparseContent, &sha256).unwrap();
        // The list alone decides: a wrong hash in it is believed as long as the file is the same.
        let text = fs::read_to_string(&list).unwrap().replace(&sha256, "another");
        fs::write(&list, text).unwrap();
        VerifiedFiles::open(list.clone()).verify(&path, HashKind::SparseContent, "another").unwrap();
        fs::write(&list, "not a list").unwrap();
        let error = VerifiedFiles::open(list).verify(&path, HashKind::SparseContent, "another").unwrap_err();
        assert!(matches!(error, VerifyError::Changed { .. }), "{error:?}");
    }
}
