//! The archive: a `.tar.gz` whose first file describes the others.

use super::{AUDIT_DIR, BackupError, DATABASE_NAME, FORMAT, FileDigest, KEY_NAME, MANIFEST_NAME, Manifest};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use tar::{Archive, Builder, Entry, Header};

/// The largest description, bytes.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// A file to be archived: its first bytes, while others may append to it.
pub(super) struct Source {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) digest: FileDigest,
}

impl Source {
    /// The first `bytes` of an open file under this name.
    pub(super) fn read(name: String, path: PathBuf, mut file: File, bytes: u64) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Read { path: path.clone(), source };
        let mut digest = Hashing(Sha256::new());
        let read = io::copy(&mut Read::by_ref(&mut file).take(bytes), &mut digest).map_err(failed)?;
        if read != bytes {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let digest = FileDigest { name, bytes, sha256: hex::encode(digest.0.finalize()) };
        Ok(Self { file, path, digest })
    }
}

/// A digest of what is written to it.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the archive to the new file `to` (mode 0600), durably.
pub(super) fn write_archive(to: &Path, manifest: &Manifest, sources: Vec<Source>) -> Result<u64, BackupError> {
    let failed = |source| BackupError::Write { path: to.to_owned(), source };
    let file = File::options().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let mut tar = Builder::new(GzEncoder::new(file, Compression::fast()));
    let described = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
    let made_at_s = manifest.made_at_ms / 1_000;
    append(&mut tar, MANIFEST_NAME, described.len() as u64, made_at_s, &described[..]).map_err(failed)?;
    for Source { file, path, digest } in sources {
        let mut file = BufReader::new(file);
        io::Seek::rewind(&mut file).map_err(|source| BackupError::Read { path, source })?;
        append(&mut tar, &digest.name, digest.bytes, made_at_s, file.take(digest.bytes)).map_err(failed)?;
    }
    let mut file = tar.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

fn append(to: &mut Builder<impl Write>, name: &str, bytes: u64, made_at_s: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(made_at_s);
    to.append_data(&mut header, name, content)
}

/// Reads the archive, and compares its files with the description.
pub(super) fn check_archive(from: &Path) -> Result<Manifest, BackupError> {
    read_files(from, |_| None)
}

/// Reads the archive, writes its files through `path_of` their names, and compares all of them with the description.
pub(super) fn read_archive(from: &Path, path_of: impl Fn(&str) -> PathBuf) -> Result<Manifest, BackupError> {
    read_files(from, |name| Some(path_of(name)))
}

fn read_files(from: &Path, path_of: impl Fn(&str) -> Option<PathBuf>) -> Result<Manifest, BackupError> {
    let damaged = |why: String| BackupError::Damaged { path: from.to_owned(), why };
    let broken = |error: io::Error| damaged(error.to_string());
    let file = File::open(from).map_err(|source| BackupError::Read { path: from.to_owned(), source })?;
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut entries = archive.entries().map_err(broken)?;
    let first = entries.next().ok_or_else(|| damaged("it is empty".to_owned()))?.map_err(broken)?;
    let manifest = read_manifest(first).map_err(damaged)?;
    if manifest.format > FORMAT {
        return Err(BackupError::NewerFormat { found: manifest.format, known: FORMAT });
    }
    let mut wanted = manifest.files.iter();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let found = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        let Some(described) = wanted.next().filter(|described| described.name == found && is_known(&found)) else {
            return Err(damaged(format!("{found} is not described")));
        };
        let to = path_of(&found);
        extract(&mut entry, described, to.as_deref()).map_err(|error| match error {
            Extraction::Read(error) => broken(error),
            Extraction::Differs => damaged(format!("{found} differs from its digest")),
            Extraction::Write(source) => BackupError::Write { path: to.unwrap_or_default(), source },
        })?;
    }
    if let Some(missing) = wanted.next() {
        return Err(damaged(format!("{} is missing", missing.name)));
    }
    // The checksum at the end covers the description, too.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(manifest)
}

/// Whether a backup can have a file of this name; no other name becomes a path.
fn is_known(name: &str) -> bool {
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let audit = name.strip_prefix(AUDIT_DIR).and_then(|name| name.strip_prefix('/'));
    name == DATABASE_NAME || name == KEY_NAME || audit.is_some_and(|name| is_plain(name) && !name.starts_with('.'))
}

fn read_manifest(entry: Entry<'_, impl Read>) -> Result<Manifest, String> {
    if entry.path().map_err(|error| error.to_string())?.as_os_str() != MANIFEST_NAME {
        return Err(format!("its first file is not {MANIFEST_NAME}"));
    }
    let mut text = Vec::new();
    entry.take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST_NAME}: {error}"))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).and_then(|format| u32::try_from(format).ok());
    match format {
        // What else a newer format describes is unknown.
        Some(format) if format > FORMAT => Ok(Manifest { format, ..unknown() }),
        Some(_) | None => serde_json::from_value(value).map_err(|error| format!("{MANIFEST_NAME}: {error}")),
    }
}

fn unknown() -> Manifest {
    Manifest {
        format: 0,
        made_at: String::new(),
        made_at_ms: 0,
        version: String::new(),
        schema_version: 0,
        database: None,
        key_fingerprint: None,
        credentials: 0,
        active_sessions: 0,
        providers: Vec::new(),
        tables: Vec::new(),
        files: Vec::new(),
    }
}

enum Extraction {
    Read(io::Error),
    Write(io::Error),
    Differs,
}

/// Compares a file with its description, and writes it if it has a path.
fn extract(entry: &mut impl Read, described: &FileDigest, to: Option<&Path>) -> Result<(), Extraction> {
    let create = |path| File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut to = to.map(create).transpose().map_err(Extraction::Write)?;
    let (mut digest, mut left, mut buffer) = (Sha256::new(), described.bytes, vec![0; 64 << 10]);
    loop {
        let read = entry.read(&mut buffer).map_err(Extraction::Read)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        left = left.checked_sub(part.len() as u64).ok_or(Extraction::Differs)?;
        digest.update(part);
        to.as_mut().map_or(Ok(()), |to| to.write_all(part)).map_err(Extraction::Write)?;
    }
    if left > 0 || hex::encode(digest.finalize()) != described.sha256 {
        return Err(Extraction::Differs);
    }
    to.map_or(Ok(()), |to| to.sync_all()).map_err(Extraction::Write)
}
