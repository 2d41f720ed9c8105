//! What a test server left behind: processes, sockets, files.
//!
//! Everything that a test server starts names the server's directory in its arguments, environment, working directory or open
//! files. So it is found whatever its parent process is. A confined VMM names nothing of it and is found as a descendant of its keeper.

use crate::eventually;
use anteroom_machine::ProcessId;
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Finds processes and files that belong to one directory.
#[derive(Debug, Clone)]
pub struct LeakScan {
    dir: PathBuf,
}

/// A process that uses the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProcess {
    /// Its id.
    pub pid: i32,
    /// Its arguments, at most 300 characters.
    pub command: String,
    /// Where the directory was found: `cmdline`, `environ`, `cwd`, `fd`; `ancestor`: an ancestor uses the directory.
    pub found_by: &'static str,
}

/// The start of a process's command line; empty for a zombie.
fn command_of(pid: i32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).replace('\0', " ").chars().take(300).collect()
}

impl LeakScan {
    /// Finds what belongs to `dir`.
    pub fn for_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Processes that use the directory, and their descendants, without this one.
    pub fn find_processes(&self) -> Vec<FoundProcess> {
        let this = std::process::id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            match self.inspect(pid) {
                _ if u32::try_from(pid) == Ok(this) => {}
                Some(process) => found.push(process),
                None => others.push(pid),
            }
        }
        let descends = |pid: &i32| {
            let ancestry = ProcessId::ancestry(pid.unsigned_abs()).unwrap_or_default();
            ancestry.iter().any(|ancestor| found.iter().any(|process| process.pid.unsigned_abs() == ancestor.pid))
        };
        let descendants = others.into_iter().filter(descends).map(|pid| (pid, command_of(pid)));
        // A zombie has no command line; only its parent still has to collect its status.
        let descendants = descendants.filter(|(_, command)| !command.is_empty()).collect::<Vec<_>>();
        found.extend(descendants.into_iter().map(|(pid, command)| FoundProcess { pid, command, found_by: "ancestor" }));
        found.sort_by_key(|found| found.pid);
        found
    }

    fn inspect(&self, pid: i32) -> Option<FoundProcess> {
        let proc_dir = PathBuf::from(format!("/proc/{pid}"));
        let needle = self.dir.to_str()?;
        let contains = |name: &str| {
            let bytes = fs::read(proc_dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(needle)
        };
        let leads_here = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(&self.dir));
        // A zombie has none of these; only its parent still has to collect its status.
        let by = if contains("cmdline") {
            "cmdline"
        } else if contains("environ") {
            "environ"
        } else if leads_here(&proc_dir.join("cwd")) {
            "cwd"
        } else if fs::read_dir(proc_dir.join("fd")).into_iter().flatten().flatten().any(|fd| leads_here(&fd.path())) {
            "fd"
        } else {
            return None;
        };
        Some(FoundProcess { pid, command: command_of(pid), found_by: by })
    }

    /// Every file, socket and directory below `sub` (a path relative to the directory).
    pub fn list_files(&self, sub: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut unread = vec![self.dir.join(sub)];
        while let Some(dir) = unread.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    unread.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    /// Files of the directory that contain `secret`, as plain text or as base64 in any of its three alignments.
    pub fn find_files_containing(&self, secret: &str) -> Vec<PathBuf> {
        let needles = encoded_forms(secret);
        let contains = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap_or_default();
            needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == needle.as_slice()))
        };
        self.list_files("").into_iter().filter(|path| path.is_file()).filter(contains).collect()
    }

    /// Waits until no process uses the directory.
    ///
    /// # Errors
    /// The processes that are left after `limit`.
    pub async fn wait_none_left(&self, limit: Duration) -> anyhow::Result<()> {
        let ended =
            eventually("every process ends", limit, async || Ok(self.find_processes().is_empty().then_some(()))).await;
        ended.with_context(|| format!("processes are left: {:#?}", self.find_processes()))
    }

    /// Kills every process that uses the directory, when a test has failed.
    pub fn kill_processes(&self) {
        for found in self.find_processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(found.pid) {
                // It may have exited since it was found.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// The byte strings to search for `secret`: the text itself, and its base64 at each of the three alignments.
pub fn encoded_forms(secret: &str) -> Vec<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
    let mut needles = vec![secret.as_bytes().to_vec()];
    for shift in 0..3_usize {
        let mut shifted = vec![0; shift];
        shifted.extend(secret.as_bytes());
        let encoded = STANDARD_NO_PAD.encode(&shifted);
        // The first and last characters also depend on neighbouring bytes, so they are left out.
        let inside = encoded.get([0, 2, 3][shift]..encoded.len().saturating_sub(2)).unwrap_or_default();
        needles.push(inside.as_bytes().to_vec());
    }
    needles.retain(|needle| needle.len() >= 8);
    needles
}
