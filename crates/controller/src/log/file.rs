//! A log file that is bounded: when a line would make it too large it is set aside as `FILE.1`, the former `FILE.1` as
//! `FILE.2` and so on; the oldest goes. Lines stay whole. Everything is for its owner alone (0600).
//!
//! It is our own because three things must hold together: the mode of every file, the bound although a rename fails, and the
//! log although a file cannot be opened.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A file that lines are written to.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    kept_max: u32,
    /// Whether the last line could only be written in part.
    torn: bool,
}

impl RotatingFile {
    /// Opens the file for appending, making it and its directory (0700) when they are not there. `bytes_max`: of this file;
    /// `kept_max`: how many files that were set aside are kept.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(path: &Path, bytes_max: u64, kept_max: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        // A server that was killed, or had no room, may have left half a line.
        let mut last = [b'\n'];
        if bytes > 0 {
            File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
        }
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max, kept_max, torn: last != [b'\n'] })
    }

    /// Sets the file aside and begins an empty one. Where that fails the file is emptied: the bound holds in any case.
    fn set_aside(&mut self) -> io::Result<()> {
        let rename = || -> io::Result<File> {
            for number in (1..self.kept_max).rev() {
                missing_is_fine(fs::rename(aside(&self.path, number), aside(&self.path, number + 1)))?;
            }
            if self.kept_max == 0 {
                missing_is_fine(fs::remove_file(&self.path))?;
            } else {
                missing_is_fine(fs::rename(&self.path, aside(&self.path, 1)))?;
            }
            append(&self.path)
        };
        match rename() {
            Ok(file) => self.file = file,
            Err(_) => self.file.set_len(0)?,
        }
        self.bytes = 0;
        self.torn = false;
        Ok(())
    }

    /// Writes all of it, or counts what was written of it.
    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        let mut left = text;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    left = left.get(count..).unwrap_or_default();
                    self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    self.torn = !left.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for RotatingFile {
    /// Takes the whole of `line`.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let more = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(more) > self.bytes_max {
            self.set_aside()?;
        }
        // Half a line that a full disk left takes nothing of the next one.
        if self.torn {
            self.put(b"\n")?;
        }
        self.put(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The name of a file that was set aside: `FILE.1` is the youngest.
fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The file and those that were set aside, the oldest first. Only those that exist.
pub fn all(path: &Path) -> Vec<PathBuf> {
    // More are kept only by a configuration that refuses to load.
    const NUMBER_MAX: u32 = 100;
    let aside = (1..=NUMBER_MAX).rev().map(|number| aside(path, number));
    aside.chain([path.to_owned()]).filter(|path| path.is_file()).collect()
}

fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // One that was there before may be open to others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
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
    fn files_are_bounded_in_size_and_number_and_lines_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").join("a.jsonl");
        let mut file = RotatingFile::open(&path, 100, 2).unwrap();
        for number in 0..50 {
            file.write_all(format!("{number:02} {}\n", "x".repeat(20)).as_bytes()).unwrap();
        }
        let found = all(&path);
        assert_eq!(found, [aside(&path, 2), aside(&path, 1), path.clone()]);
        let kept: Vec<String> = found.iter().flat_map(|path| lines(path)).collect();
        // Four lines of 24 bytes fit in 100; the last file has what is left: 50 = 12 × 4 + 2.
        let numbers: Vec<u32> = kept.iter().map(|line| line[..2].parse().unwrap()).collect();
        assert_eq!(numbers, (40..50).collect::<Vec<_>>());
        for path in found {
            assert!(fs::metadata(&path).unwrap().len() <= 100);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_closed_to_them_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "before\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        RotatingFile::open(&path, 100, 1).unwrap().write_all(b"after\n").unwrap();
        assert_eq!(lines(&path), ["before", "after"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn where_nothing_can_be_set_aside_the_bound_holds_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        // A directory stands where the file would be renamed to.
        fs::create_dir_all(aside(&path, 1).join("in-the-way")).unwrap();
        let mut file = RotatingFile::open(&path, 30, 1).unwrap();
        for number in 0..10 {
            file.write_all(format!("line {number} of ten\n").as_bytes()).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= 30);
        assert_eq!(lines(&path), ["line 8 of ten", "line 9 of ten"]);
    }

    #[test]
    fn half_a_line_takes_nothing_of_the_next_one() {
        use rustix::pipe::{PipeFlags, pipe_with};
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "a server was killed at th").unwrap();
        let mut file = RotatingFile::open(&path, 1 << 30, 1).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(lines(&path), ["a server was killed at th", "one"]);

        // A pipe that nobody reads is a disk that gets full.
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        file.file = File::from(writer);
        let long = format!("{}\n", "x".repeat(1 << 20));
        assert!(file.write_all(long.as_bytes()).is_err());
        assert!(file.write_all(b"nothing fits\n").is_err(), "still full");
        let (mut reader, mut there) = (File::from(reader), Vec::new());
        let _ = reader.read_to_end(&mut there);
        assert!(!there.is_empty() && there.iter().all(|byte| *byte == b'x'));
        file.write_all(b"two\n").unwrap();
        file.write_all(b"three\n").unwrap();
        drop(file);
        let mut there = String::new();
        reader.read_to_string(&mut there).unwrap();
        assert_eq!(there, "\ntwo\nthree\n");
    }
}
