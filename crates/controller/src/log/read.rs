//! Reads the log files: all lines of one session, or the last lines of all.

use super::file;
use anteroom_wire::{MachineId, SessionId};
use serde_json::Value;
use std::{
    collections::{BTreeSet, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The level of a log line, the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An operation failed.
    Error,
    /// A degradation or a rejected request.
    Warn,
    /// A decision.
    Info,
    /// Details for developers.
    Debug,
    /// All events.
    Trace,
}

impl Level {
    fn of(line: &Value) -> Option<Self> {
        Some(match line.get("level")?.as_str()? {
            "ERROR" => Self::Error,
            "WARN" => Self::Warn,
            "INFO" => Self::Info,
            "DEBUG" => Self::Debug,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }
}

/// Selects log lines.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only lines of this session and of its machines.
    pub session: Option<SessionId>,
    /// The session's known machines. A line that names both the session and a machine adds that machine.
    pub machines: BTreeSet<MachineId>,
    /// Only lines of this level or more severe.
    pub least_level: Option<Level>,
}

impl LogFilter {
    /// Whether the filter selects the line.
    pub fn matches(&mut self, line: &Value) -> bool {
        if let Some(session) = &self.session {
            let text = |key: &str| line.get(key).and_then(Value::as_str);
            let machine: Option<MachineId> = text("machine").and_then(|id| id.parse().ok());
            let of_session = text("session") == Some(session.as_str());
            if of_session && let Some(machine) = &machine {
                self.machines.insert(machine.clone());
            }
            if !of_session && !machine.is_some_and(|machine| self.machines.contains(&machine)) {
                return false;
            }
        }
        self.least_level.is_none_or(|level| Level::of(line).is_some_and(|found| found <= level))
    }

    /// Whether the text is a JSON line that the filter selects.
    fn matches_text(&mut self, text: &str) -> bool {
        // Skips parsing for the lines of other sessions, which are most.
        let may_match = self.session.as_ref().is_none_or(|session| {
            text.contains(session.as_str()) || self.machines.iter().any(|machine| text.contains(machine.as_str()))
        });
        may_match && serde_json::from_str(text).is_ok_and(|line| self.matches(&line))
    }
}

/// Calls `on_line` with every selected line of the log, rotated files included, the oldest first, without the line break.
/// Stops when `on_line` returns `false`.
///
/// # Errors
/// A file exists and cannot be read.
pub fn for_each_log_line(path: &Path, filter: &mut LogFilter, mut on_line: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut files = Vec::new();
    for path in file::existing_log_files(path) {
        match File::open(&path) {
            Ok(file) => files.push(file),
            // Rotated or removed concurrently.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for file in files {
        if !read_lines(&mut BufReader::new(file), |line| !filter.matches_text(line) || on_line(line))? {
            break;
        }
    }
    Ok(())
}

/// Returns the last selected lines, at most `lines_max`, the oldest first.
///
/// # Errors
/// As [`for_each_log_line`].
pub fn last_log_lines(path: &Path, filter: &mut LogFilter, lines_max: usize) -> io::Result<Vec<String>> {
    let mut kept = VecDeque::new();
    for_each_log_line(path, filter, |line| {
        if kept.len() == lines_max {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
        true
    })?;
    Ok(kept.into())
}

/// Calls `on_line` with every line until the end of the file. Returns `false` if `on_line` returned `false`.
fn read_lines(reader: &mut impl BufRead, mut on_line: impl FnMut(&str) -> bool) -> io::Result<bool> {
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if !on_line(text.trim_end_matches('\n')) {
            return Ok(false);
        }
        line.clear();
    }
    Ok(true)
}

/// Follows a log file from its current end, across rotations.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// The beginning of an incomplete last line.
    partial_line: Vec<u8>,
}

impl LogFollower {
    /// Starts at the current end of the file.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn open_at_end(path: &Path) -> io::Result<Self> {
        let mut follower = Self { path: path.to_owned(), reader: None, partial_line: Vec::new() };
        follower.open()?;
        if let Some(reader) = &mut follower.reader {
            reader.seek(io::SeekFrom::End(0))?;
        }
        Ok(follower)
    }

    fn open(&mut self) -> io::Result<()> {
        self.reader = match File::open(&self.path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Calls `on_line` with every selected line that was written since the last call. Returns `false` if `on_line` returned
    /// `false`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_new_lines(
        &mut self,
        filter: &mut LogFilter,
        mut on_line: impl FnMut(&str) -> bool,
    ) -> io::Result<bool> {
        loop {
            // Checked before reading, so that the rest of the rotated file is read first.
            let was_rotated = self.was_rotated()?;
            if let Some(reader) = &mut self.reader {
                while reader.read_until(b'\n', &mut self.partial_line)? > 0 {
                    if !self.partial_line.ends_with(b"\n") {
                        break;
                    }
                    let line = std::mem::take(&mut self.partial_line);
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end_matches('\n');
                    if filter.matches_text(text) && !on_line(text) {
                        return Ok(false);
                    }
                }
            }
            if !was_rotated {
                return Ok(true);
            }
            self.partial_line.clear();
            self.open()?;
        }
    }

    /// Whether the path now refers to another file than the open one, or to the first file.
    fn was_rotated(&self) -> io::Result<bool> {
        let Ok(now) = std::fs::metadata(&self.path) else { return Ok(false) };
        match &self.reader {
            None => Ok(true),
            Some(reader) => {
                let open = reader.get_ref().metadata()?;
                Ok((open.dev(), open.ino()) != (now.dev(), now.ino()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::file::RotatingFile, *};
    use std::io::Write;

    const SESSION: &str = "ses_00000000010101010101010101";
    const MACHINE: &str = "mac_00000000020202020202020202";

    fn filter(level: Option<Level>) -> LogFilter {
        LogFilter { session: Some(SESSION.parse().unwrap()), machines: BTreeSet::new(), least_level: level }
    }

    fn sample() -> Vec<String> {
        [
            format!(r#"{{"level":"INFO","machine":"{MACHINE}","message":"before a line names its session"}}"#),
            format!(r#"{{"level":"INFO","session":"{SESSION}","message":"one"}}"#),
            r#"{"level":"INFO","session":"ses_00000000030303030303030303","message":"another session"}"#.to_owned(),
            format!(r#"{{"level":"INFO","session":"{SESSION}","machine":"{MACHINE}","message":"two"}}"#),
            format!(r#"{{"level":"WARN","machine":"{MACHINE}","message":"three"}}"#),
            format!("not JSON, but it names {SESSION}"),
        ]
        .into()
    }

    fn messages(lines: &[String]) -> Vec<String> {
        let message =
            |line: &String| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned();
        lines.iter().map(message).collect()
    }

    #[test]
    fn lines_of_a_session_and_its_machines_are_found_in_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut file = RotatingFile::open(&path, 150, 10).unwrap();
        sample().iter().for_each(|line| writeln!(file, "{line}").unwrap());
        assert!(file::existing_log_files(&path).len() > 2);
        assert_eq!(messages(&last_log_lines(&path, &mut filter(None), 10).unwrap()), ["one", "two", "three"]);
        assert_eq!(messages(&last_log_lines(&path, &mut filter(Some(Level::Warn)), 10).unwrap()), ["three"]);
        assert_eq!(messages(&last_log_lines(&path, &mut filter(None), 1).unwrap()), ["three"]);
        let mut with_machine = filter(None);
        with_machine.machines.insert(MACHINE.parse().unwrap());
        assert_eq!(last_log_lines(&path, &mut with_machine, 10).unwrap().len(), 4);
    }

    #[test]
    fn a_follower_loses_no_line_when_the_file_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut file = RotatingFile::open(&path, 200, 3).unwrap();
        let line = |number: u32| format!(r#"{{"level":"INFO","message":"{number}"}}"#);
        writeln!(file, "{}", line(0)).unwrap();
        let mut follower = LogFollower::open_at_end(&path).unwrap();
        let mut received = Vec::new();
        for number in 1..30 {
            writeln!(file, "{}", line(number)).unwrap();
            follower
                .read_new_lines(&mut LogFilter::default(), |line| {
                    received.push(line.to_owned());
                    true
                })
                .unwrap();
        }
        assert_eq!(messages(&received), (1..30).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn an_incomplete_line_is_delivered_once_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut follower = LogFollower::open_at_end(&path).unwrap();
        let mut file = RotatingFile::open(&path, 200, 3).unwrap();
        let mut received = Vec::new();
        for part in ["{\"level\":\"INFO\",", "\"message\":\"whole\"}\n"] {
            assert!(received.is_empty());
            file.write_all(part.as_bytes()).unwrap();
            follower
                .read_new_lines(&mut LogFilter::default(), |line| {
                    received.push(line.to_owned());
                    true
                })
                .unwrap();
        }
        assert_eq!(messages(&received), ["whole"]);
    }
}
