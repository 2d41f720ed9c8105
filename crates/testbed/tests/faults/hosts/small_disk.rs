//! A small file system at the state directory of a host.

use crate::inject::{command, run_checked};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// Enough for the files of the host and of its plain-process machines.
const OPTIONS: &str = "size=96m,mode=0700";

/// Ends with this value; the directory above it is removed then.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Moves the files of the directory to a small file system, which is mounted there. Nothing may use them.
    pub(crate) fn mount_at(dir: &Path) -> Self {
        let other = dir.with_extension("small");
        fs::create_dir(&other).unwrap();
        run_checked(command("mount").args(["-t", "tmpfs", "-o", OPTIONS, "anteroom-test"]).arg(&other));
        run_checked(command("cp").arg("-a").arg(dir.join(".")).arg(&other));
        run_checked(command("mount").arg("--bind").args([other.as_path(), dir]));
        run_checked(command("umount").arg(&other));
        fs::remove_dir(&other).unwrap();
        Self(dir.to_owned())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    pub(crate) fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [64 * 1024, 1] {
            let chunk = vec![1; size];
            while file.write_all(&chunk).is_ok() {}
        }
    }

    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Best effort: the mount is removed with its namespace in any case.
        let _ = command("umount").args(["--quiet", "--lazy"]).arg(&self.0).status();
        if let Some(server) = self.0.parent() {
            let _ = fs::remove_dir_all(server);
        }
    }
}
