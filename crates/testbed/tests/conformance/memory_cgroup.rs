//! A cgroup that limits memory, where this host lets the test make one.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The parent of the cgroup and the file of its limit, in cgroup versions 1 and 2.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A cgroup. On drop it is removed; its processes must have exited.
pub(crate) struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// Makes a cgroup whose processes together have at most `bytes_max` of memory.
    ///
    /// # Errors
    /// The error of the last hierarchy, if this host has none that can be used.
    pub(crate) fn new(name: &str, bytes_max: u64) -> io::Result<Self> {
        let mut last_error = io::Error::from(io::ErrorKind::NotFound);
        for (parent, limit) in HIERARCHIES {
            let path = Path::new(parent).join(name);
            if let Err(error) = fs::create_dir(&path) {
                last_error = error;
                continue;
            }
            let cgroup = Self(path);
            match fs::write(cgroup.0.join(limit), bytes_max.to_string()) {
                Ok(()) => return Ok(cgroup),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Writes a script to `script` that executes `program` in this cgroup.
    pub(crate) fn write_script(&self, script: &Path, program: &Path) -> io::Result<()> {
        let (procs, program) = (self.0.join("cgroup.procs"), program.display());
        fs::write(script, format!("#!/bin/sh\necho $$ >'{}'\nexec '{program}' \"$@\"\n", procs.display()))?;
        fs::set_permissions(script, fs::Permissions::from_mode(0o700))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(std::thread::panicking() || removed.is_ok(), "{} is left over: {removed:?}", self.0.display());
    }
}
