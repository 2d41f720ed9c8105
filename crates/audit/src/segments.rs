//! The files of a trail: `audit-000001.jsonl`, `audit-000002.jsonl`, …

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A file of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its number.
    pub(crate) number: u64,
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its size, bytes.
    pub(crate) bytes: u64,
    /// The time of its last write.
    pub(crate) modified_at: SystemTime,
}

/// The name of a file.
pub(crate) fn file_name(number: u64) -> String {
    format!("audit-{number:06}.jsonl")
}

/// The files of a directory, the oldest first. A directory that does not exist has none.
pub(crate) fn list_segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(number_of) else { continue };
        // The retention may remove it now.
        let Ok(meta) = entry.metadata() else { continue };
        found.push(Segment { number, path: entry.path(), bytes: meta.len(), modified_at: meta.modified()? });
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let number = digits.parse().ok()?;
    (name == file_name(number)).then_some(number)
}
