//! The guest image: its files, its directory, its checks.
//!
//! ```text
//!  images/
//!    lock                    locked by the running build
//!    current ──▶ 3f9c…       the image for new machines; replaced by rename
//!    3f9c…/                  one image, named after its hash, immutable
//!      manifest.json  vmlinux  initramfs.cpio  rootfs.squashfs
//!    cache/roots/<key>/      root file systems by the hash of their inputs
//!    cache/tools/            packages of command-line tools, verified against the recipe
//!    tmp-<random>/           a build in progress; the next build removes leftovers
//! ```
//!
//! Kernel, modules, initial file system and root file system are one versioned unit: the hash in the manifest covers all of
//! them, including the agent (the initial file system's `/init`). Templates and machines refer to that hash.

mod archive;
mod build;
mod build_command;
mod build_error;
mod build_settings;
mod check_packages;
#[cfg(test)]
mod contents_document;
pub(crate) mod elf;
mod extra_files;
mod fetch_tools;
mod hook;
mod host_requirements;
mod initramfs;
mod kernel;
mod leftovers;
mod package_lock;
mod path_pattern;
mod progress;
mod recipe;
mod root_fs;
mod root_fs_build_parameters;
mod sbom;
mod store;

pub use archive::{FetchError, ImageFetch, export_image};
pub use build::{BuildOutcome, build_image};
pub use build_error::BuildError;
pub use build_settings::BuildSettings;
pub use extra_files::{ExtraFile, FILE_BYTES_MAX, HOOK_BYTES_MAX, Hook, collisions};
pub use hook::HOOK_S_MAX;
pub use host_requirements::{MissingRequirement, apt_install_command, find_missing_requirements};
pub use package_lock::{PackageDifference, package_differences, to_package_lock};
pub use progress::{BuildStep, OnProgress, ProgressReport};
pub use recipe::Cli;
pub use sbom::to_cyclonedx;

use crate::verified_files::{FileStamp, HashKind, VerifiedFiles, VerifyError};
use anteroom_wire::agent::PROTOCOL_VERSION;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The version of the layout of the manifest and of the initial file system.
pub const MANIFEST_FORMAT: u32 = 1;
/// The manifest's file name in an image's directory.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The list of verified files in a cache directory.
pub(crate) const VERIFIED_FILE: &str = "verified.json";
/// The largest manifest that is read, bytes.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// An image on disk whose manifest and artefacts have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its directory.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The contents of an image: `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`] of the builder.
    pub format: u32,
    /// SHA-256 (hex) over format, protocol and the three artefacts: two images with the same hash are the same guest.
    pub hash: String,
    /// [`PROTOCOL_VERSION`] of the agent in the image.
    pub protocol: u32,
    /// The kernel, an uncompressed ELF `vmlinux` with a PVH entry: QEMU's microvm and Firecracker both start it.
    pub kernel: Artefact,
    /// The initial file system (cpio, newc): the agent as `/init`, the modules in `/modules`.
    pub initramfs: Artefact,
    /// The read-only root file system (squashfs).
    pub rootfs: Artefact,
    /// Release name of the kernel.
    pub kernel_version: String,
    /// Options (without `CONFIG_`) that the build found in the kernel: all that the recipe requires. Empty if the image was built
    /// before they were recorded.
    #[serde(default)]
    pub kernel_options: Vec<String>,
    /// Command-line tool → version.
    pub clis: BTreeMap<String, String>,
    /// Debian package → version.
    pub packages: BTreeMap<String, String>,
    /// Debian package → SHA-256 (hex) of its file. Empty if the image was built before they were recorded.
    #[serde(default)]
    pub package_sha256: BTreeMap<String, String>,
    /// SHA-256 (hex) of the agent's binary.
    pub agent_sha256: String,
    /// SHA-256 (hex) of all inputs. A build with the same inputs reuses this image.
    pub inputs_sha256: String,
    /// Build time, seconds since 1970. Not part of the hash.
    pub built_at_unix_s: u64,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Its name in the image's directory.
    pub file: String,
    /// SHA-256 (hex) of its content.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no current image.
    #[error("there is no image in {0:?}: run `anteroom image build`")]
    NoCurrentImage(PathBuf),
    /// A file cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The manifest cannot be parsed.
    #[error("{path:?} is not a valid image manifest")]
    InvalidManifest {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: serde_json::Error,
    },
    /// The image has another layout version.
    #[error(
        "the image in {dir:?} has layout {found}, this program reads {MANIFEST_FORMAT}: run `anteroom image build`"
    )]
    UnsupportedFormat {
        /// The image's directory.
        dir: PathBuf,
        /// Its layout version.
        found: u32,
    },
    /// The agent in the image has another protocol version.
    #[error(
        "the agent of the image in {dir:?} has protocol {found}, this program {PROTOCOL_VERSION}: run `anteroom image build`"
    )]
    UnsupportedProtocol {
        /// The image's directory.
        dir: PathBuf,
        /// The agent's protocol version.
        found: u32,
    },
    /// The content of an artefact does not match the manifest.
    #[error("the image is damaged or was changed: remove its directory and run `anteroom image build`")]
    Content(#[from] VerifyError),
    /// An artefact does not match the manifest.
    #[error("{path:?} {why}")]
    InvalidArtefact {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Protects an image from removal until it is dropped: a shared lock (flock) on its initial file system, the one file that no
/// other image shares.
#[derive(Debug)]
pub struct ImageLock {
    _file: File,
    rootfs: PathBuf,
    rootfs_sha256: String,
}

impl ImageLock {
    /// Verifies the root file system, the file that running machines read.
    pub(crate) fn verify_rootfs(&self, verified: &VerifiedFiles) -> Result<(PathBuf, FileStamp), VerifyError> {
        let stamp = verified.verify(&self.rootfs, HashKind::Content, &self.rootfs_sha256)?;
        Ok((self.rootfs.clone(), stamp))
    }
}

impl Image {
    /// Opens the image in `dir`. The manifest must be valid and every artefact must exist with its size and magic number.
    /// Contents are not hashed; see [`Image::verify`].
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        let path = dir.join(MANIFEST_FILE);
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text))
            .map_err(|source| ImageError::Read { path: path.clone(), source })?;
        // The layout version first: another version may have other fields.
        #[derive(Deserialize)]
        struct Layout {
            format: u32,
        }
        let layout: Layout = serde_json::from_slice(&text)
            .map_err(|source| ImageError::InvalidManifest { path: path.clone(), source })?;
        if layout.format != MANIFEST_FORMAT {
            return Err(ImageError::UnsupportedFormat { dir: dir.to_owned(), found: layout.format });
        }
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| ImageError::InvalidManifest { path, source })?;
        if manifest.protocol != PROTOCOL_VERSION {
            return Err(ImageError::UnsupportedProtocol { dir: dir.to_owned(), found: manifest.protocol });
        }
        let image = Self { dir: dir.to_owned(), manifest };
        image.check_artefacts()?;
        Ok(image)
    }

    /// Opens the image for new machines.
    ///
    /// # Errors
    /// There is none, or it is invalid.
    pub fn open_current(images_dir: &Path) -> Result<Self, ImageError> {
        match fs::canonicalize(images_dir.join(store::CURRENT_LINK)) {
            Ok(dir) => Self::open(&dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ImageError::NoCurrentImage(images_dir.to_owned()))
            }
            Err(source) => Err(ImageError::Read { path: images_dir.join(store::CURRENT_LINK), source }),
        }
    }

    /// Path of the kernel.
    pub fn kernel_path(&self) -> PathBuf {
        self.dir.join(&self.manifest.kernel.file)
    }

    /// Path of the initial file system.
    pub fn initramfs_path(&self) -> PathBuf {
        self.dir.join(&self.manifest.initramfs.file)
    }

    /// Path of the root file system.
    pub fn rootfs_path(&self) -> PathBuf {
        self.dir.join(&self.manifest.rootfs.file)
    }

    /// Hashes every artefact (half a gigabyte, one or two seconds; blocking).
    ///
    /// # Errors
    /// A hash differs from the manifest, or a file cannot be read.
    pub fn verify(&self) -> Result<(), ImageError> {
        for artefact in self.artefacts() {
            let path = self.dir.join(&artefact.file);
            let found = sha256_of(&path).map_err(|source| ImageError::Read { path: path.clone(), source })?;
            if found != artefact.sha256 {
                let why = format!("has the hash {found}, but the manifest has {}", artefact.sha256);
                return Err(ImageError::InvalidArtefact { path, why });
            }
        }
        self.check_hash()
    }

    /// Checks that the image's hash is that of its artefacts.
    fn check_hash(&self) -> Result<(), ImageError> {
        let hash = hash_of(self.manifest.protocol, self.artefacts());
        if hash != self.manifest.hash {
            let why = format!("has the image hash {}, but its artefacts have {hash}", self.manifest.hash);
            return Err(ImageError::InvalidArtefact { path: self.dir.join(MANIFEST_FILE), why });
        }
        Ok(())
    }

    /// As [`Image::verify`], but reads only files that are not in the list of verified files in `cache_dir`.
    ///
    /// # Errors
    /// As [`Image::verify`].
    pub fn verify_once(&self, cache_dir: &Path) -> Result<(), ImageError> {
        fs::create_dir_all(cache_dir).map_err(|source| ImageError::Read { path: cache_dir.to_owned(), source })?;
        let verified = VerifiedFiles::open(cache_dir.join(VERIFIED_FILE));
        for artefact in self.artefacts() {
            verified.verify(&self.dir.join(&artefact.file), HashKind::Content, &artefact.sha256)?;
        }
        self.check_hash()
    }

    /// Protects the image from removal by a later build.
    ///
    /// # Errors
    /// The image was removed, or is being removed.
    pub fn lock(&self) -> Result<ImageLock, ImageError> {
        let path = self.initramfs_path();
        let lock = || -> io::Result<File> {
            let file = File::open(&path)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
            // Fails if the image was removed between opening and locking.
            fs::metadata(&path)?;
            Ok(file)
        };
        let file = lock().map_err(|source| ImageError::Read { path, source })?;
        let (rootfs, rootfs_sha256) = (self.rootfs_path(), self.manifest.rootfs.sha256.clone());
        Ok(ImageLock { _file: file, rootfs, rootfs_sha256 })
    }

    fn artefacts(&self) -> [&Artefact; 3] {
        [&self.manifest.kernel, &self.manifest.initramfs, &self.manifest.rootfs]
    }

    /// Checks name, size and magic number of every artefact.
    fn check_artefacts(&self) -> Result<(), ImageError> {
        let checks: [FormatCheck; 3] = [not_a_kernel, not_a_cpio, not_a_squashfs];
        for (artefact, check) in self.artefacts().into_iter().zip(checks) {
            let path = self.dir.join(&artefact.file);
            let invalid = |why: String| ImageError::InvalidArtefact { path: path.clone(), why };
            if artefact.file.is_empty() || artefact.file.contains('/') || artefact.file.starts_with('.') {
                return Err(invalid("is not a plain name in the image's directory".into()));
            }
            let read = |source| ImageError::Read { path: path.clone(), source };
            let mut file = File::open(&path).map_err(read)?;
            let bytes = file.metadata().map_err(read)?.len();
            if bytes != artefact.bytes {
                return Err(invalid(format!("has {bytes} bytes, but the manifest has {}", artefact.bytes)));
            }
            let mut head = [0; 1024];
            let got = read_up_to(&mut file, &mut head).map_err(read)?;
            if let Some(why) = check(&head[..got]) {
                return Err(invalid(why.into()));
            }
        }
        Ok(())
    }
}

/// The hash of an image.
fn hash_of(protocol: u32, artefacts: [&Artefact; 3]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("anteroom image {MANIFEST_FORMAT} protocol {protocol}\n"));
    for artefact in artefacts {
        hash.update(format!("{} {} {}\n", artefact.file, artefact.bytes, artefact.sha256));
    }
    hex::encode(hash.finalize())
}

/// Checks the first bytes of a file; returns what is wrong with it, or `None`.
type FormatCheck = fn(&[u8]) -> Option<&'static str>;

fn not_a_kernel(head: &[u8]) -> Option<&'static str> {
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return Some("is a compressed kernel (bzImage); an ELF vmlinux is needed");
    }
    elf::why_not_x86_64(head)
}

fn not_a_cpio(head: &[u8]) -> Option<&'static str> {
    (!head.starts_with(b"070701")).then_some("is not a cpio archive of the newc kind")
}

fn not_a_squashfs(head: &[u8]) -> Option<&'static str> {
    (!head.starts_with(b"hsqs")).then_some("is not a squashfs file system")
}

/// Reads until `buffer` is full or the file ends.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

/// SHA-256 (hex) of a file's content.
fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            got => hash.update(&buffer[..got]),
        }
    }
}

/// The manifest entry of a file that was just written.
fn artefact_of(path: &Path, file: &str) -> io::Result<Artefact> {
    Ok(Artefact { file: file.to_owned(), sha256: sha256_of(path)?, bytes: fs::metadata(path)?.len() })
}

#[cfg(test)]
mod tests;
