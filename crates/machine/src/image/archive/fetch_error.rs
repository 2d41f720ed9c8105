//! Why an image was not fetched.

use crate::image::{ImageError, MANIFEST_FORMAT};
use anteroom_wire::agent::PROTOCOL_VERSION;
use std::{io, path::PathBuf};

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A build or another fetch is running.
    #[error("an image is being built or fetched in {0:?}: wait until it is done")]
    Busy(PathBuf),
    /// A file or directory of the images directory cannot be written.
    #[error("{path:?} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The source cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It ends in the middle.
    #[error("it is truncated: it ends within {0}")]
    Truncated(String),
    /// Another kind of file.
    #[error("it is not an image of `anteroom image export`: {0}")]
    Foreign(String),
    /// An image of another version.
    #[error(
        "its image has layout {format} and protocol {protocol}, this program {MANIFEST_FORMAT} and {PROTOCOL_VERSION}: fetch the image \
         of this program's version"
    )]
    OtherVersion {
        /// The layout of its manifest.
        format: u32,
        /// Its agent's protocol.
        protocol: u32,
    },
    /// The content of an artefact is not that of the manifest.
    #[error("it is damaged: the hash of {file} is {found}, and its manifest has {expected}")]
    Damaged {
        /// The artefact, or `the image`.
        file: String,
        /// SHA-256 of its manifest.
        expected: String,
        /// SHA-256 of the content.
        found: String,
    },
    /// The checksum is another one.
    #[error("its SHA-256 is {found}, not {expected}: it is damaged, or another file")]
    Checksum {
        /// The wanted one.
        expected: String,
        /// That of the file.
        found: String,
    },
    /// An artefact is no kernel or file system.
    #[error(transparent)]
    Image(#[from] ImageError),
}
