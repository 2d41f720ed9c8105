//! The file system of the state directory. SQLite's write-ahead log needs memory that all connections share and locks that work, which
//! file systems of a network do not give (<https://sqlite.org/wal.html>, <https://sqlite.org/faq.html#q5>); see decision 0029.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// File systems of a network or a cluster, as in `/proc/filesystems` (and, with `fuse.`, as their programs name themselves).
const NETWORK: [&str; 21] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.cephfs",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
];
/// File systems behind which there may be a network: directories that another system shares, and programs.
const SHARED: [&str; 5] = ["9p", "fuse", "vboxsf", "virtiofs", "vmhgfs"];

/// What a file system means for the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// One of this host.
    Local,
    /// A directory that another system shares, or that a program serves.
    Shared,
    /// One of a network or a cluster.
    Network,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFileSystem {
    /// Its type, as the kernel names it (`ext4`, `nfs4`, `fuse.sshfs`).
    pub type_name: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

impl StateFileSystem {
    /// The file system of `dir`, or of its nearest directory that exists.
    ///
    /// # Errors
    /// The list of mounts cannot be read.
    pub fn of_dir(dir: &Path) -> io::Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let absolute = std::path::absolute(dir)?;
        let existing = absolute.ancestors().find_map(|dir| dir.canonicalize().ok());
        Ok(Self::in_mounts(&mounts, &existing.unwrap_or(absolute)))
    }

    /// The mount of `path`, which has no symbolic links, in the text of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)). Of two mounts at
    /// one place the later one counts.
    fn in_mounts(mounts: &str, path: &Path) -> Option<Self> {
        let found = mounts.lines().filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mount_point = PathBuf::from(unescape(mount.split(' ').nth(4)?));
            let type_name = file_system.split(' ').next()?.to_owned();
            path.starts_with(&mount_point).then_some(Self { type_name, mount_point })
        });
        found.max_by_key(|found| found.mount_point.components().count())
    }

    /// What it means for the database.
    pub fn kind(&self) -> FileSystemKind {
        let name = self.type_name.as_str();
        if NETWORK.contains(&name) {
            FileSystemKind::Network
        } else if SHARED.contains(&name) || name.starts_with("fuse.") {
            FileSystemKind::Shared
        } else {
            FileSystemKind::Local
        }
    }

    /// What is wrong with it as the state directory's, and what to do; `None`: nothing.
    pub fn fault(&self) -> Option<String> {
        let (type_name, mount_point) = (&self.type_name, self.mount_point.display());
        let what = match self.kind() {
            FileSystemKind::Local => return None,
            FileSystemKind::Network => {
                "a file system of a network, on which SQLite's log does not work and data can be lost"
            }
            FileSystemKind::Shared => {
                "shared by another system or served by a program; SQLite's log works only if locks and memory maps do"
            }
        };
        Some(format!(
            "the state directory is on {type_name} ({mount_point}), {what}; set state_dir to a directory on a disk of this host"
        ))
    }
}

/// The characters that mountinfo writes as octal numbers: blanks, line ends and backslashes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Refuses a state directory on a file system of a network.
///
/// # Errors
/// The sentence of [`StateFileSystem::fault`].
pub fn require_local_state_dir(dir: &Path) -> Result<(), String> {
    // Without a list of mounts nothing is known, and nothing is refused.
    match StateFileSystem::of_dir(dir) {
        Ok(Some(found)) if found.kind() == FileSystemKind::Network => Err(found.fault().unwrap_or_default()),
        _ => Ok(()),
    }
}

/// Logs a state directory on a file system that may not be this host's.
pub fn warn_unless_local(dir: &Path) {
    if let Some(fault) = StateFileSystem::of_dir(dir).ok().flatten().and_then(|found| found.fault()) {
        tracing::warn!(outcome = "state_directory", fault, "state directory on a shared file system");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                          30 22 0:40 / /home rw,relatime shared:2 - nfs4 files:/home rw,vers=4.2\n\
                          31 30 0:41 / /home/ada/My\\040Files rw - fuse.sshfs ada@files: rw\n\
                          32 30 0:42 / /home/local rw - ext4 /dev/vdb rw\n\
                          33 22 0:43 / /mnt/share rw - cifs //files/share rw\n\
                          34 22 0:44 / /mnt/host rw - 9p host rw\n\
                          35 22 0:45 / /mnt/host rw - tmpfs tmpfs rw\n\
                          36 22 0:46 / /mnt/box rw - fuse.gocryptfs box rw\n";

    fn at(path: &str) -> (String, FileSystemKind) {
        let found = StateFileSystem::in_mounts(MOUNTS, Path::new(path)).unwrap();
        let kind = found.kind();
        (found.type_name, kind)
    }

    #[test]
    fn r44_the_nearest_and_latest_mount_decides() {
        use FileSystemKind::{Local, Network, Shared};
        for (path, type_name, kind) in [
            ("/var/lib/anteroom", "ext4", Local),
            ("/home/ada/.local/state/anteroom", "nfs4", Network),
            ("/home/ada/My Files/state", "fuse.sshfs", Network),
            ("/home/local/anteroom", "ext4", Local),
            ("/homes/anteroom", "ext4", Local),
            ("/mnt/share/a", "cifs", Network),
            ("/mnt/host/a", "tmpfs", Local),
            ("/mnt/box/a", "fuse.gocryptfs", Shared),
        ] {
            assert_eq!(at(path), (type_name.to_owned(), kind), "{path}");
        }
        let fault = StateFileSystem::in_mounts(MOUNTS, Path::new("/home/ada")).unwrap().fault().unwrap();
        assert!(fault.contains("nfs4 (/home)") && fault.contains("set state_dir"), "{fault}");
    }

    #[test]
    fn r44_real_file_systems_are_found() {
        let found = |path: &str| StateFileSystem::of_dir(Path::new(path)).unwrap().unwrap();
        assert_eq!(
            (found("/proc").type_name.as_str(), found("/proc/no/such/dir").type_name.as_str()),
            ("proc", "proc")
        );
        let dir = tempfile::tempdir().unwrap();
        let of_temporary = StateFileSystem::of_dir(&dir.path().join("new")).unwrap().unwrap();
        assert!(dir.path().canonicalize().unwrap().starts_with(&of_temporary.mount_point), "{of_temporary:?}");
        assert_eq!(require_local_state_dir(Path::new("/proc")), Ok(()));
    }
}
