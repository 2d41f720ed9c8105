//! The names of files that a tool wrote below its home directory, to be compared with the descriptor's paths. Never their contents.

use std::{cmp::Reverse, collections::VecDeque, fmt, fs, path::Path, time::SystemTime};

/// Names that are reported, the newest first.
const NAMES_MAX: usize = 5;
/// Directories that are read.
const DIRECTORIES_MAX: usize = 500;
/// Entries that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// Directories that programs fill by themselves, with the machine's browser.
const LEFT_OUT: [&str; 6] = [".cache", ".npm", "chromium", "node_modules", ".pki", ".local/share/applications"];

/// Names of files, as the end of a reason: `: a, b`; empty if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(super) Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0.join(", ")) }
    }
}

/// The files below `home` that were written since, the newest first. Symbolic links are not followed.
pub(super) fn written_since(home: &Path, since: SystemTime) -> Vec<String> {
    let mut found: Vec<(SystemTime, String)> = Vec::new();
    let mut directories = VecDeque::from([home.to_owned()]);
    let (mut read, mut entries_left) = (0, ENTRIES_MAX);
    while let Some(directory) = directories.pop_front() {
        if read == DIRECTORIES_MAX || entries_left == 0 {
            break;
        }
        read += 1;
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten().take(entries_left) {
            entries_left -= 1;
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let Some(name) = path.strip_prefix(home).ok().and_then(Path::to_str) else { continue };
            if LEFT_OUT.iter().any(|left_out| path.ends_with(left_out)) {
                continue;
            }
            if metadata.is_dir() {
                directories.push_back(path);
            } else if metadata.is_file()
                && let Some(written) = metadata.modified().ok().filter(|written| *written >= since)
            {
                found.push((written, name.to_owned()));
            }
        }
    }
    found.sort_by_key(|(written, _)| Reverse(*written));
    found.into_iter().take(NAMES_MAX).map(|(_, name)| name).collect()
}
