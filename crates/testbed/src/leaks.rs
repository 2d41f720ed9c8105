//! What is left of a world: processes, sockets, files.
//!
//! Everything a world starts has the world's own directory somewhere about it: in its arguments, environment, working
//! directory or open files. That is how it is found, whoever its parent is by now.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Looks for what belongs to one directory.
#[derive(Debug, Clone)]
pub struct Leaks {
    dir: PathBuf,
}

/// A process that has to do with the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub pid: i32,
    /// Its arguments, shortened.
    pub command: String,
    /// How it was recognised: `cmdline`, `environ`, `cwd`, `fd`.
    pub by: &'static str,
}

impl Leaks {
    /// For everything that has to do with `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Processes that have to do with the directory, without this one.
    pub fn processes(&self) -> Vec<Found> {
        let me = std::process::id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut found: Vec<_> = all
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| u32::try_from(*pid) != Ok(me))
            .filter_map(|pid| self.looked_at(pid))
            .collect();
        found.sort_by_key(|found| found.pid);
        found
    }

    fn looked_at(&self, pid: i32) -> Option<Found> {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let needle = self.dir.to_str()?;
        let contains = |name: &str| {
            let bytes = fs::read(place.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(needle)
        };
        let leads_here = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(&self.dir));
        // A zombie has neither; it is gone but for its parent.
        let by = if contains("cmdline") {
            "cmdline"
        } else if contains("environ") {
            "environ"
        } else if leads_here(&place.join("cwd")) {
            "cwd"
        } else if fs::read_dir(place.join("fd")).into_iter().flatten().flatten().any(|fd| leads_here(&fd.path())) {
            "fd"
        } else {
            return None;
        };
        let command = fs::read(place.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ").chars().take(300).collect();
        Some(Found { pid, command, by })
    }

    /// Everything below `sub` (a path below the directory): sockets, run directories, files.
    pub fn files(&self, sub: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.dir.join(sub)];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    waiting.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    /// Files of the directory that contain `secret`, in the clear or as base64 in any of its three alignments.
    pub fn files_with(&self, secret: &str) -> Vec<PathBuf> {
        let needles = needles(secret);
        let holds = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap_or_default();
            needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == needle.as_slice()))
        };
        self.files("").into_iter().filter(|path| path.is_file()).filter(holds).collect()
    }

    /// Waits until no process has to do with the directory.
    ///
    /// # Errors
    /// Those that are left after the time.
    pub async fn gone_within(&self, limit: Duration) -> Result<(), Vec<Found>> {
        let until = Instant::now() + limit;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(left);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends every process that has to do with the directory: the last resort of a test that failed.
    pub fn kill_all(&self) {
        for found in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(found.pid) {
                // It may have ended by itself meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// The open files of this process, as kind → how many: `socket`, `pipe`, `anon_inode`, or a path.
pub fn open_files() -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for fd in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(fd.path()) {
            let target = target.to_string_lossy().into_owned();
            let kind = target.split(':').next().unwrap_or(&target).to_owned();
            *counts.entry(kind).or_default() += 1;
        }
    }
    counts
}

/// The text itself and the inside of its base64 at each of the three alignments.
pub fn needles(secret: &str) -> Vec<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
    let mut needles = vec![secret.as_bytes().to_vec()];
    for shift in 0..3_usize {
        let mut shifted = vec![0; shift];
        shifted.extend(secret.as_bytes());
        let encoded = STANDARD_NO_PAD.encode(&shifted);
        // Characters that also depend on the neighbours are left out at both ends.
        let inside = encoded.get([0, 2, 3][shift]..encoded.len().saturating_sub(2)).unwrap_or_default();
        needles.push(inside.as_bytes().to_vec());
    }
    needles.retain(|needle| needle.len() >= 8);
    needles
}
