//! Who this host is: `host.json` in the state directory.

use crate::random;
use anteroom_wire::HostId;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file's name in the state directory.
pub(super) const HOST_FILE: &str = "host.json";
/// Differs after each boot of the system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostFile {
    /// This host.
    pub(super) id: HostId,
    /// The incarnation with which it joined last.
    pub(super) incarnation: u64,
    /// The boot in which it joined: no machine outlives it.
    boot: String,
}

impl HostFile {
    /// A host that has joined in this boot.
    pub(super) fn new(id: HostId, incarnation: u64) -> io::Result<Self> {
        Ok(Self { id, incarnation, boot: this_boot()? })
    }

    /// Whether machines of that time can still run.
    pub(super) fn is_of_this_boot(&self) -> bool {
        this_boot().is_ok_and(|boot| boot == self.boot)
    }

    /// The file; `None`: this host has never joined.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    }
}

/// The id of this host. A machine that has never joined gets one.
///
/// # Errors
/// The file cannot be read or written.
pub fn read_or_create_host_id(state_dir: &Path) -> io::Result<HostId> {
    let path = state_dir.join(HOST_FILE);
    if let Some(file) = HostFile::read(&path)? {
        return Ok(file.id);
    }
    let id = random::random_id(HostId::from_parts);
    HostFile::new(id.clone(), 0)?.write(&path)?;
    Ok(id)
}

fn this_boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HOST_FILE);
        assert_eq!(HostFile::read(&path).unwrap(), None);
        let host = HostFile::new(HostId::from_parts(1, [2; 10]), 3).unwrap();
        host.write(&path).unwrap();
        let read = HostFile::read(&path).unwrap().unwrap();
        assert!(read == host && read.is_of_this_boot());
        assert!(!HostFile { boot: "another".to_owned(), ..read }.is_of_this_boot());
        fs::write(&path, "{").unwrap();
        assert!(HostFile::read(&path).is_err());
    }
}
