//! Retention of receipts and support bundles: each directory is bounded in file count, total bytes and age. The oldest files
//! are removed first.

use crate::config::Config;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The file name suffix of receipts.
pub const RECEIPT_SUFFIX: &str = ".json";
/// The file name suffix of support bundles.
pub const BUNDLE_SUFFIX: &str = ".tar.gz";

/// The limits of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Number of files.
    pub files_max: usize,
    /// Total size of all files, bytes.
    pub bytes_max: u64,
    /// Age of a file since its last write, seconds.
    pub age_s_max: u64,
}

/// A file that is subject to retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// Time of the last write.
    pub modified_at: SystemTime,
}

/// The limit that a file exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExceededLimit {
    /// The file is too old.
    #[error("it is older than {s_max} s")]
    Age {
        /// The limit.
        s_max: u64,
    },
    /// The directory has too many files.
    #[error("there are more than {files_max}")]
    Count {
        /// The limit.
        files_max: usize,
    },
    /// The files of the directory are too large in total.
    #[error("together they have more than {bytes_max} bytes")]
    Bytes {
        /// The limit.
        bytes_max: u64,
    },
}

/// Support bundles that are kept. Each is made for one question to the developers; their size and age are settings.
pub const BUNDLES_MAX: usize = 20;

/// The limits of the directory of bundles.
pub fn bundle_limits(config: &Config) -> RetentionLimits {
    let retention = &config.retention;
    RetentionLimits {
        files_max: BUNDLES_MAX,
        bytes_max: retention.bundles_bytes_max,
        age_s_max: retention.bundles_s_max,
    }
}

/// The limits of the directory of receipts. Each receipt is bounded by [`anteroom_machine::CONSOLE_BYTES_MAX`], so bytes need no limit.
pub fn receipt_limits(config: &Config) -> RetentionLimits {
    let retention = &config.retention;
    RetentionLimits { files_max: retention.receipts_max, bytes_max: u64::MAX, age_s_max: retention.receipts_s_max }
}

/// Lists the files of a directory whose names end with `suffix`. A directory that does not exist is empty.
///
/// # Errors
/// The directory cannot be read.
pub fn list_files(dir: &Path, suffix: &str) -> io::Result<Vec<RetainedFile>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // The file may be removed concurrently.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && entry.file_name().to_string_lossy().ends_with(suffix) {
            found.push(RetainedFile { path: entry.path(), bytes: meta.len(), modified_at: meta.modified()? });
        }
    }
    Ok(found)
}

/// Selects the files to remove and the limit that each exceeds, the oldest first.
pub fn find_over_limit(
    mut files: Vec<RetainedFile>,
    limits: RetentionLimits,
    now: SystemTime,
) -> Vec<(RetainedFile, ExceededLimit)> {
    files.sort_by(|one, other| (one.modified_at, &one.path).cmp(&(other.modified_at, &other.path)));
    let (mut count, mut bytes) = (files.len(), files.iter().map(|file| file.bytes).sum::<u64>());
    let mut removed = Vec::new();
    for file in files {
        let age = now.duration_since(file.modified_at).unwrap_or(Duration::ZERO);
        let limit = if age > Duration::from_secs(limits.age_s_max) {
            ExceededLimit::Age { s_max: limits.age_s_max }
        } else if count > limits.files_max {
            ExceededLimit::Count { files_max: limits.files_max }
        } else if bytes > limits.bytes_max {
            ExceededLimit::Bytes { bytes_max: limits.bytes_max }
        } else {
            break;
        };
        count -= 1;
        bytes -= file.bytes;
        removed.push((file, limit));
    }
    removed
}

/// Removes a file. A file that does not exist counts as removed.
///
/// # Errors
/// The file cannot be removed.
pub fn remove_file(file: &RetainedFile) -> io::Result<()> {
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lists unfinished receipts and bundles whose writer has exited. Both are written to a hidden temporary file next to the
/// final path; a receipt's temporary name has its keeper's process id as suffix.
///
/// # Errors
/// The directory exists and cannot be read.
pub fn list_unfinished_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_old = |path: &PathBuf| {
        let age = fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age.as_secs() > 60)
    };
    Ok(paths.into_iter().filter(|path| is_hidden(path) && is_old(path) && !is_being_written(path)).collect())
}

/// Whether the keeper that began the receipt still runs: `.mac_….4711`.
fn is_being_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
    let Some((machine, pid)) = name.and_then(|name| name.split_once('.')) else { return false };
    let line = pid.parse::<u32>().ok().and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    line.is_some_and(|line| String::from_utf8_lossy(&line).contains(machine))
}

/// Whether the file name begins with a dot.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: u64, written_s: u64) -> RetainedFile {
        RetainedFile { path: name.into(), bytes, modified_at: SystemTime::UNIX_EPOCH + Duration::from_secs(written_s) }
    }

    fn removed(limits: RetentionLimits) -> Vec<(String, ExceededLimit)> {
        let files = vec![file("c", 30, 300), file("a", 10, 100), file("b", 20, 200), file("d", 40, 1_000)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(400);
        let name = |file: RetainedFile| file.path.display().to_string();
        find_over_limit(files, limits, now).into_iter().map(|(file, limit)| (name(file), limit)).collect()
    }

    #[test]
    fn oldest_files_are_removed_first_and_only_until_limits_hold() {
        let all = RetentionLimits { files_max: 4, bytes_max: 100, age_s_max: 1_000 };
        assert_eq!(removed(all), []);
        assert_eq!(
            removed(RetentionLimits { files_max: 3, ..all }),
            [("a".into(), ExceededLimit::Count { files_max: 3 })]
        );
        let bytes = ExceededLimit::Bytes { bytes_max: 70 };
        assert_eq!(removed(RetentionLimits { bytes_max: 70, ..all }), [("a".into(), bytes), ("b".into(), bytes)]);
        // "d" is from the future, as after a clock was set back: its age is 0.
        let age = ExceededLimit::Age { s_max: 150 };
        assert_eq!(removed(RetentionLimits { age_s_max: 150, ..all }), [("a".into(), age), ("b".into(), age)]);
        assert_eq!(removed(RetentionLimits { age_s_max: 0, ..all }).len(), 3);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_empty() {
        assert_eq!(list_files(Path::new("/nowhere/at/all"), ".json").unwrap(), []);
    }
}
