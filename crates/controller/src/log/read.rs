//! Reading the log files back: all lines of one session, or the last of all.

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

/// How bad a line is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is worse than it should be.
    Warn,
    /// A decision.
    Info,
    /// For developers.
    Debug,
    /// Everything.
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

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only lines of this session, and of its machines.
    pub session: Option<SessionId>,
    /// Machines that are known to be this session's; lines that name both teach more of them.
    pub machines: BTreeSet<MachineId>,
    /// Only lines as bad as this.
    pub level: Option<Level>,
}

impl Wanted {
    /// Whether the line is wanted. What is not JSON is not.
    pub fn takes(&mut self, line: &Value) -> bool {
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
        self.level.is_none_or(|level| Level::of(line).is_some_and(|found| found <= level))
    }

    fn takes_text(&mut self, text: &str) -> bool {
        // Most lines are somebody else's: they need not be parsed.
        let near = self.session.as_ref().is_none_or(|session| {
            text.contains(session.as_str()) || self.machines.iter().any(|machine| text.contains(machine.as_str()))
        });
        near && serde_json::from_str(text).is_ok_and(|line| self.takes(&line))
    }
}

/// Tells every wanted line of the file and of those that were set aside, the oldest first, without its line break. Ends
/// early when `on` says `false`.
///
/// # Errors
/// A file is there and cannot be read.
pub fn each(path: &Path, wanted: &mut Wanted, mut on: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut files = Vec::new();
    for path in file::all(path) {
        match File::open(&path) {
            Ok(file) => files.push(file),
            // Set aside or removed at this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for file in files {
        if !lines(&mut BufReader::new(file), |line| !wanted.takes_text(line) || on(line))? {
            break;
        }
    }
    Ok(())
}

/// The last wanted lines, at most `lines_max`, the oldest first.
///
/// # Errors
/// As [`each`].
pub fn last(path: &Path, wanted: &mut Wanted, lines_max: usize) -> io::Result<Vec<String>> {
    let mut kept = VecDeque::new();
    each(path, wanted, |line| {
        if kept.len() == lines_max {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
        true
    })?;
    Ok(kept.into())
}

/// Whole lines until the end of what is there; `false`: `on` wants no more.
fn lines(reader: &mut impl BufRead, mut on: impl FnMut(&str) -> bool) -> io::Result<bool> {
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if !on(text.trim_end_matches('\n')) {
            return Ok(false);
        }
        line.clear();
    }
    Ok(true)
}

/// Follows a log file from its present end on, through being set aside.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// What was read of a line that is not whole yet.
    begun: Vec<u8>,
}

impl Follower {
    /// From the end of what is there now.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn at_end(path: &Path) -> io::Result<Self> {
        let mut follower = Self { path: path.to_owned(), reader: None, begun: Vec::new() };
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

    /// Tells every wanted line that was written since; `false`: `on` wants no more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn look(&mut self, wanted: &mut Wanted, mut on: impl FnMut(&str) -> bool) -> io::Result<bool> {
        loop {
            // Asked before reading: what was written before the file was set aside is read first.
            let was_set_aside = self.was_set_aside()?;
            if let Some(reader) = &mut self.reader {
                while reader.read_until(b'\n', &mut self.begun)? > 0 {
                    if !self.begun.ends_with(b"\n") {
                        break;
                    }
                    let line = std::mem::take(&mut self.begun);
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end_matches('\n');
                    if wanted.takes_text(text) && !on(text) {
                        return Ok(false);
                    }
                }
            }
            if !was_set_aside {
                return Ok(true);
            }
            self.begun.clear();
            self.open()?;
        }
    }

    /// Whether the path leads to another file now, or to one at last.
    fn was_set_aside(&self) -> io::Result<bool> {
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

    fn wanted(level: Option<Level>) -> Wanted {
        Wanted { session: Some(SESSION.parse().unwrap()), machines: BTreeSet::new(), level }
    }

    fn story() -> Vec<String> {
        [
            format!(r#"{{"level":"INFO","machine":"{MACHINE}","message":"before anybody said whose it is"}}"#),
            format!(r#"{{"level":"INFO","session":"{SESSION}","message":"one"}}"#),
            r#"{"level":"INFO","session":"ses_00000000030303030303030303","message":"somebody else's"}"#.to_owned(),
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
    fn a_sessions_lines_and_its_machines_are_found_in_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut file = RotatingFile::open(&path, 150, 10).unwrap();
        story().iter().for_each(|line| writeln!(file, "{line}").unwrap());
        assert!(file::all(&path).len() > 2);
        assert_eq!(messages(&last(&path, &mut wanted(None), 10).unwrap()), ["one", "two", "three"]);
        assert_eq!(messages(&last(&path, &mut wanted(Some(Level::Warn)), 10).unwrap()), ["three"]);
        assert_eq!(messages(&last(&path, &mut wanted(None), 1).unwrap()), ["three"]);
        let mut known = wanted(None);
        known.machines.insert(MACHINE.parse().unwrap());
        assert_eq!(last(&path, &mut known, 10).unwrap().len(), 4);
    }

    #[test]
    fn a_follower_loses_no_line_when_the_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut file = RotatingFile::open(&path, 200, 3).unwrap();
        let line = |number: u32| format!(r#"{{"level":"INFO","message":"{number}"}}"#);
        writeln!(file, "{}", line(0)).unwrap();
        let mut follower = Follower::at_end(&path).unwrap();
        let mut heard = Vec::new();
        for number in 1..30 {
            writeln!(file, "{}", line(number)).unwrap();
            follower
                .look(&mut Wanted::default(), |line| {
                    heard.push(line.to_owned());
                    true
                })
                .unwrap();
        }
        assert_eq!(messages(&heard), (1..30).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn half_a_line_is_told_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut follower = Follower::at_end(&path).unwrap();
        let mut file = RotatingFile::open(&path, 200, 3).unwrap();
        let mut heard = Vec::new();
        for part in ["{\"level\":\"INFO\",", "\"message\":\"whole\"}\n"] {
            assert!(heard.is_empty());
            file.write_all(part.as_bytes()).unwrap();
            follower
                .look(&mut Wanted::default(), |line| {
                    heard.push(line.to_owned());
                    true
                })
                .unwrap();
        }
        assert_eq!(messages(&heard), ["whole"]);
    }
}
