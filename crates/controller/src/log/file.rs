//! A size-bounded, rotating log file. When a line would exceed the limit, `FILE` becomes `FILE.1`, `FILE.1` becomes `FILE.2`
//! and so on; the oldest file is removed. Lines are never split across files. All files have mode 0600. If another program (logrotate)
//! renames or removes the file, the next line goes to a new one.
//!
//! It is not a library because three properties are needed together: the mode of every file, the size bound when a rename
//! fails, and continued logging when a file cannot be opened.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A log file with rotation.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    /// The file system and the inode of the file.
    identity: (u64, u64),
    bytes: u64,
    bytes_max: u64,
    rotated_max: u32,
    /// Whether the last line in the file is incomplete.
    is_line_incomplete: bool,
}

impl RotatingFile {
    /// Opens the file for appending; creates it and its directory (0700) if they do not exist. `bytes_max`: limit of each
    /// file, bytes; `rotated_max`: number of rotated files to keep.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn open(path: &Path, bytes_max: u64, rotated_max: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = append(path)?;
        let metadata = file.metadata()?;
        let (bytes, identity) = (metadata.len(), (metadata.dev(), metadata.ino()));
        // A server that was killed, or had no disk space, may have left an incomplete line.
        let mut last = [b'\n'];
        if bytes > 0 {
            File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
        }
        let is_line_incomplete = last != [b'\n'];
        Ok(Self { path: path.to_owned(), file, identity, bytes, bytes_max, rotated_max, is_line_incomplete })
    }

    /// Renames the file and opens an empty one. If that fails the file is truncated, so the size bound always holds.
    fn rotate(&mut self) -> io::Result<()> {
        let rename = || -> io::Result<File> {
            for number in (1..self.rotated_max).rev() {
                ignore_missing(fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1)))?;
            }
            if self.rotated_max == 0 {
                ignore_missing(fs::remove_file(&self.path))?;
            } else {
                ignore_missing(fs::rename(&self.path, rotated(&self.path, 1)))?;
            }
            append(&self.path)
        };
        match rename() {
            Ok(file) => {
                let metadata = file.metadata()?;
                self.identity = (metadata.dev(), metadata.ino());
                self.file = file;
            }
            Err(_) => self.file.set_len(0)?,
        }
        self.bytes = 0;
        self.is_line_incomplete = false;
        Ok(())
    }

    /// Opens the path again if it leads to another file, or to none. If that fails, lines go on into the renamed file.
    fn follow_rename(&mut self) {
        let is_same = fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if !is_same && let Ok(new) = Self::open(&self.path, self.bytes_max, self.rotated_max) {
            *self = new;
        }
    }

    /// Writes the whole text; after an error `bytes` counts the part that was written.
    fn append_bytes(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    self.is_line_incomplete = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for RotatingFile {
    /// Writes `line` as a whole, never only a part.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.follow_rename();
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > self.bytes_max {
            self.rotate()?;
        }
        // Separates this line from an incomplete one that a full disk left.
        if self.is_line_incomplete {
            self.append_bytes(b"\n")?;
        }
        self.append_bytes(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The path of a rotated file: `FILE.1` is the newest.
fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The existing files of a log, rotated ones included, the oldest first.
pub fn existing_log_files(path: &Path) -> Vec<PathBuf> {
    // The configuration does not accept a higher number.
    const NUMBER_MAX: u32 = 100;
    let rotated = (1..=NUMBER_MAX).rev().map(|number| rotated(path, number));
    rotated.chain([path.to_owned()]).filter(|path| path.is_file()).collect()
}

fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // An existing file may be readable by other users.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_lines_are_not_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").join("a.jsonl");
        let mut file = RotatingFile::open(&path, 100, 2).unwrap();
        for number in 0..50 {
            file.write_all(format!("{number:02} {}\n", "x".repeat(20)).as_bytes()).unwrap();
        }
        let found = existing_log_files(&path);
        assert_eq!(found, [rotated(&path, 2), rotated(&path, 1), path.clone()]);
        let kept: Vec<String> = found.iter().flat_map(|path| lines(path)).collect();
        // Four lines of 24 bytes fit in 100; the last file has the remaining two: 50 = 12 × 4 + 2.
        let numbers: Vec<u32> = kept.iter().map(|line| line[..2].parse().unwrap()).collect();
        assert_eq!(numbers, (40..50).collect::<Vec<_>>());
        for path in found {
            assert!(fs::metadata(&path).unwrap().len() <= 100);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_existing_file_gets_mode_0600_and_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "before\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        RotatingFile::open(&path, 100, 1).unwrap().write_all(b"after\n").unwrap();
        assert_eq!(lines(&path), ["before", "after"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_size_bound_holds_when_rotation_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        // A directory occupies the name of the rotated file.
        fs::create_dir_all(rotated(&path, 1).join("occupied")).unwrap();
        let mut file = RotatingFile::open(&path, 30, 1).unwrap();
        for number in 0..10 {
            file.write_all(format!("line {number} of ten\n").as_bytes()).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= 30);
        assert_eq!(lines(&path), ["line 8 of ten", "line 9 of ten"]);
    }

    #[test]
    fn lines_follow_the_path_when_the_file_is_renamed_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut file = RotatingFile::open(&path, 1 << 20, 1).unwrap();
        file.write_all(b"one\n").unwrap();
        fs::rename(&path, dir.path().join("a.jsonl-20260101")).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(lines(&path), ["two"]);
        // logrotate with `create`: the new file has another mode.
        fs::rename(&path, rotated(&path, 1)).unwrap();
        fs::write(&path, "").unwrap();
        file.write_all(b"three\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b"four\n").unwrap();
        assert_eq!((lines(&path), lines(&rotated(&path, 1))), (vec!["four".to_owned()], vec!["two".to_owned()]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_incomplete_line_does_not_corrupt_the_next_line() {
        use rustix::pipe::{PipeFlags, pipe_with};
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "a server was killed at th").unwrap();
        let mut file = RotatingFile::open(&path, 1 << 30, 1).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(lines(&path), ["a server was killed at th", "one"]);

        // A pipe without a reader behaves like a full disk.
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        file.file = File::from(writer);
        let long = format!("{}\n", "x".repeat(1 << 20));
        assert!(file.write_all(long.as_bytes()).is_err());
        assert!(file.write_all(b"nothing fits\n").is_err(), "still full");
        let (mut reader, mut written) = (File::from(reader), Vec::new());
        let _ = reader.read_to_end(&mut written);
        assert!(!written.is_empty() && written.iter().all(|byte| *byte == b'x'));
        file.write_all(b"two\n").unwrap();
        file.write_all(b"three\n").unwrap();
        drop(file);
        let mut written = String::new();
        reader.read_to_string(&mut written).unwrap();
        assert_eq!(written, "\ntwo\nthree\n");
    }
}
