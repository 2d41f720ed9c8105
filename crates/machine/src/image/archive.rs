//! An image in one file: `anteroom image export` and `fetch`. A host that fetches it needs no tools to build one.
//!
//! The file is a tar archive with the manifest first and then the artefacts that it lists, in its order, without compression: the root
//! file system is compressed already.

mod fetch_error;
#[cfg(test)]
mod tests;

pub use fetch_error::FetchError;

use super::{
    Image, MANIFEST_BYTES_MAX, MANIFEST_FILE, MANIFEST_FORMAT, Manifest, hash_of, leftovers,
    store::{self, ImageStore, LockError},
};
use anteroom_wire::agent::PROTOCOL_VERSION;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// The largest artefact that is fetched, bytes.
const ARTEFACT_BYTES_MAX: u64 = 16 << 30;
/// What may follow the last artefact, bytes: the zeros at the end of an archive.
const END_BYTES_MAX: u64 = 1 << 20;
/// Images that are kept, as after a build.
const IMAGES_KEPT: usize = 3;

/// Writes an image, whose files are verified. Returns the SHA-256 (hex) of what was written.
///
/// # Errors
/// The image is damaged, or the archive cannot be written.
pub fn export_image(image: &Image, to: impl Write) -> Result<String, FetchError> {
    image.verify()?;
    let path = image.dir.clone();
    let write = || -> io::Result<String> {
        let mut archive = tar::Builder::new(HashingWriter { inner: to, hash: Sha256::new() });
        let names = [MANIFEST_FILE.to_owned()].into_iter().chain(image.artefacts().map(|one| one.file.clone()));
        for name in names {
            let file = File::open(image.dir.join(&name))?;
            let mut header = tar::Header::new_ustar();
            header.set_size(file.metadata()?.len());
            header.set_mode(0o644);
            header.set_mtime(image.manifest.built_at_unix_s);
            archive.append_data(&mut header, name, file)?;
        }
        let mut written = archive.into_inner()?;
        written.inner.flush()?;
        Ok(hex::encode(written.hash.finalize()))
    };
    write().map_err(|source| FetchError::Write { path, source })
}

/// A fetch in progress. Its directory is removed when it is dropped; after a kill, the next fetch or build removes it.
#[derive(Debug)]
pub struct ImageFetch {
    store: ImageStore,
    scratch: PathBuf,
    abandoned: AtomicBool,
}

impl Drop for ImageFetch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

impl ImageFetch {
    /// Locks the images directory, which is created if it is missing.
    ///
    /// # Errors
    /// It cannot be written, or a build or another fetch is running.
    pub fn begin(images_dir: &Path) -> Result<Self, FetchError> {
        let store = ImageStore::open_locked(images_dir).map_err(|error| match error {
            LockError::Busy(_) => FetchError::Busy(images_dir.to_owned()),
            LockError::Io(path, source) => FetchError::Write { path, source },
        })?;
        let write = |source| FetchError::Write { path: images_dir.to_owned(), source };
        for left in store.list_leftovers().map_err(write)? {
            // The next build ends the programs of a killed build first.
            if !leftovers::is_of_build(&left) {
                fs::remove_dir_all(&left).map_err(write)?;
            }
        }
        let scratch = store.create_scratch_dir().map_err(write)?;
        Ok(Self { store, scratch, abandoned: AtomicBool::new(false) })
    }

    /// Unpacks and verifies an archive. Blocks while it is read.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn unpack(&self, from: impl Read, sha256: &str) -> Result<(), FetchError> {
        let mut archive = tar::Archive::new(HashingReader { inner: from, hash: Sha256::new(), stop: &self.abandoned });
        let manifest = self.unpack_entries(&mut archive)?;
        let mut rest = archive.into_inner();
        let after = io::copy(&mut (&mut rest).take(END_BYTES_MAX + 1), &mut io::sink()).map_err(FetchError::Read)?;
        if after > END_BYTES_MAX {
            return Err(FetchError::Foreign("more follows the image".into()));
        }
        let found = hex::encode(rest.hash.finalize());
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(FetchError::Checksum { expected: sha256.to_owned(), found });
        }
        let found = hash_of(manifest.protocol, [&manifest.kernel, &manifest.initramfs, &manifest.rootfs]);
        if found != manifest.hash {
            return Err(FetchError::Damaged { file: "the image".into(), expected: manifest.hash, found });
        }
        Image::open(&self.scratch)?;
        Ok(())
    }

    fn unpack_entries<R: Read>(&self, archive: &mut tar::Archive<R>) -> Result<Manifest, FetchError> {
        // Without extensions of tar, whose size is not limited.
        let mut entries = archive.entries().map_err(FetchError::Read)?.raw(true);
        let mut next = |name: &str, bytes_max: u64| match entries.next() {
            None => Err(FetchError::Truncated(name.to_owned())),
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(FetchError::Truncated(name.to_owned()))
            }
            Some(Err(error)) => Err(FetchError::Foreign(error.to_string())),
            Some(Ok(entry)) => {
                let is_it = entry.path_bytes().as_ref() == name.as_bytes() && entry.header().entry_type().is_file();
                if is_it && entry.size() <= bytes_max {
                    Ok(entry)
                } else {
                    Err(FetchError::Foreign(format!("{name} is not where it is expected, or too large")))
                }
            }
        };
        let mut text = Vec::new();
        let mut entry = next(MANIFEST_FILE, MANIFEST_BYTES_MAX)?;
        let bytes = entry.read_to_end(&mut text).map_err(|error| read_error(error, MANIFEST_FILE))?;
        if (bytes as u64) < entry.size() {
            return Err(FetchError::Truncated(MANIFEST_FILE.to_owned()));
        }
        let manifest = parse(&text)?;
        for artefact in [&manifest.kernel, &manifest.initramfs, &manifest.rootfs] {
            let is_plain = !artefact.file.is_empty() && !artefact.file.contains('/') && !artefact.file.starts_with('.');
            if !is_plain || artefact.file == MANIFEST_FILE {
                return Err(FetchError::Foreign(format!("{:?} is not the name of an artefact", artefact.file)));
            }
            let entry = next(&artefact.file, ARTEFACT_BYTES_MAX)?;
            let found = self.store_artefact(&artefact.file, entry)?;
            if found != artefact.sha256 {
                let (file, expected) = (artefact.file.clone(), artefact.sha256.clone());
                return Err(FetchError::Damaged { file, expected, found });
            }
        }
        self.write_new(MANIFEST_FILE, &text)?;
        Ok(manifest)
    }

    /// Writes an artefact into the directory of this fetch; returns its SHA-256.
    fn store_artefact(&self, name: &str, mut from: tar::Entry<'_, impl Read>) -> Result<String, FetchError> {
        let path = self.scratch.join(name);
        let failed = |source| FetchError::Write { path: path.clone(), source };
        let mut file = File::create_new(&path).map_err(failed)?;
        let (mut hash, mut left) = (Sha256::new(), from.size());
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let got = from.read(&mut buffer).map_err(|error| read_error(error, name))?;
            let chunk = buffer.get(..got).filter(|chunk| !chunk.is_empty());
            let chunk = chunk.ok_or_else(|| FetchError::Truncated(name.to_owned()))?;
            hash.update(chunk);
            file.write_all(chunk).map_err(failed)?;
            left = left.saturating_sub(got as u64);
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn write_new(&self, name: &str, content: &[u8]) -> Result<(), FetchError> {
        let path = self.scratch.join(name);
        fs::write(&path, content).map_err(|source| FetchError::Write { path, source })
    }

    /// Makes what was unpacked the image for new machines, and removes images that are no longer used.
    ///
    /// # Errors
    /// The images directory cannot be written.
    pub fn publish(self) -> Result<Image, FetchError> {
        let manifest = Image::open(&self.scratch)?.manifest;
        let dir = self.store.dir.join(&manifest.hash);
        let publish = || -> io::Result<()> {
            // Machines may use an image of the same name: it has the same content.
            if Image::open(&dir).and_then(|image| image.verify()).is_err() {
                store::publish(&self.scratch, &dir)?;
            }
            Ok(())
        };
        publish().map_err(|source| FetchError::Write { path: dir.clone(), source })?;
        let image = Image::open(&dir)?;
        let made = self.store.make_current(&image).and_then(|()| self.store.prune(IMAGES_KEPT));
        made.map_err(|source| FetchError::Write { path: self.store.dir.clone(), source })?;
        Ok(image)
    }

    /// Ends [`Self::unpack`] on another thread, and removes what it has written.
    pub fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
        for _ in 0..100 {
            let _ = fs::remove_dir_all(&self.scratch);
            if !self.scratch.exists() {
                return;
            }
            // The other thread has just made a file.
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn parse(text: &[u8]) -> Result<Manifest, FetchError> {
    /// What all layouts have.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
        protocol: u32,
    }
    let foreign = |error: serde_json::Error| FetchError::Foreign(format!("its manifest is not valid: {error}"));
    let Version { format, protocol } = serde_json::from_slice(text).map_err(foreign)?;
    if (format, protocol) != (MANIFEST_FORMAT, PROTOCOL_VERSION) {
        return Err(FetchError::OtherVersion { format, protocol });
    }
    serde_json::from_slice(text).map_err(foreign)
}

fn read_error(error: io::Error, within: &str) -> FetchError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        FetchError::Truncated(within.to_owned())
    } else {
        FetchError::Read(error)
    }
}

struct HashingReader<'a, R> {
    inner: R,
    hash: Sha256,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for HashingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let got = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..got).unwrap_or_default());
        Ok(got)
    }
}

struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
