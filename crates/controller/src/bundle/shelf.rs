//! A directory of evidence that is bounded in number, bytes and age: what has to go, and why, the oldest first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How much may lie in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files.
    pub files_max: usize,
    /// All of them together.
    pub bytes_max: u64,
    /// A file's age.
    pub s_max: u64,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub written: SystemTime,
}

/// Why a file has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// It is too old.
    #[error("it is older than {s_max} s")]
    Age {
        /// The limit.
        s_max: u64,
    },
    /// There are too many.
    #[error("there are more than {files_max}")]
    Number {
        /// The limit.
        files_max: usize,
    },
    /// They are too large together.
    #[error("together they have more than {bytes_max} bytes")]
    Bytes {
        /// The limit.
        bytes_max: u64,
    },
}

/// The files of a directory whose names end so. A directory that does not exist is empty.
///
/// # Errors
/// It cannot be read.
pub fn items(dir: &Path, ending: &str) -> io::Result<Vec<Item>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A file that goes while it is looked at is no fault.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && entry.file_name().to_string_lossy().ends_with(ending) {
            found.push(Item { path: entry.path(), bytes: meta.len(), written: meta.modified()? });
        }
    }
    Ok(found)
}

/// What has to go, the oldest first. Pure.
pub fn excess(mut items: Vec<Item>, limits: Limits, now: SystemTime) -> Vec<(Item, Excess)> {
    items.sort_by(|one, other| (one.written, &one.path).cmp(&(other.written, &other.path)));
    let (mut files, mut bytes) = (items.len(), items.iter().map(|item| item.bytes).sum::<u64>());
    let mut going = Vec::new();
    for item in items {
        let age = now.duration_since(item.written).unwrap_or(Duration::ZERO);
        let why = if age > Duration::from_secs(limits.s_max) {
            Excess::Age { s_max: limits.s_max }
        } else if files > limits.files_max {
            Excess::Number { files_max: limits.files_max }
        } else if bytes > limits.bytes_max {
            Excess::Bytes { bytes_max: limits.bytes_max }
        } else {
            break;
        };
        files -= 1;
        bytes -= item.bytes;
        going.push((item, why));
    }
    going
}

/// Removes a file; gone already is as good.
///
/// # Errors
/// It cannot be removed.
pub fn remove(item: &Item) -> io::Result<()> {
    match fs::remove_file(&item.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, bytes: u64, written_s: u64) -> Item {
        Item { path: name.into(), bytes, written: SystemTime::UNIX_EPOCH + Duration::from_secs(written_s) }
    }

    fn going(limits: Limits) -> Vec<(String, Excess)> {
        let items = vec![item("c", 30, 300), item("a", 10, 100), item("b", 20, 200), item("d", 40, 1_000)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(400);
        let name = |item: Item| item.path.display().to_string();
        excess(items, limits, now).into_iter().map(|(item, why)| (name(item), why)).collect()
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_must() {
        let all = Limits { files_max: 4, bytes_max: 100, s_max: 1_000 };
        assert_eq!(going(all), []);
        assert_eq!(going(Limits { files_max: 3, ..all }), [("a".into(), Excess::Number { files_max: 3 })]);
        let bytes = Excess::Bytes { bytes_max: 70 };
        assert_eq!(going(Limits { bytes_max: 70, ..all }), [("a".into(), bytes), ("b".into(), bytes)]);
        // "d" is from the future, as after a clock was set back: it is young.
        let age = Excess::Age { s_max: 150 };
        assert_eq!(going(Limits { s_max: 150, ..all }), [("a".into(), age), ("b".into(), age)]);
        assert_eq!(going(Limits { s_max: 0, ..all }).len(), 3);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_empty() {
        assert_eq!(items(Path::new("/nowhere/at/all"), ".json").unwrap(), []);
    }
}
