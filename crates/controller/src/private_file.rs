//! Files with secrets that only their owner may read.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};
use zeroize::Zeroizing;

/// What is at the path of a file with secrets.
pub(crate) enum PrivateFile {
    /// The text, up to the limit.
    Text(Zeroizing<String>),
    /// A directory or a special file.
    NotAFile,
    /// A file that others may read.
    ReadableByOthers {
        /// Its permissions.
        mode: u32,
    },
}

/// Who may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only its owner.
    Owner,
    /// The users to whom the service manager gives access, by the list of the file system.
    ByServiceManager,
}

/// Reads at most `bytes_max` bytes of a file with secrets.
pub(crate) fn read_private_file(path: &Path, readers: Readers, bytes_max: u64) -> io::Result<PrivateFile> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(PrivateFile::NotAFile);
    }
    if readers == Readers::Owner && meta.mode() & 0o077 != 0 {
        return Ok(PrivateFile::ReadableByOthers { mode: meta.mode() & 0o777 });
    }
    let mut text = Zeroizing::new(String::new());
    Read::by_ref(&mut file).take(bytes_max).read_to_string(&mut text)?;
    Ok(PrivateFile::Text(text))
}
