//! The last lines of a program's output, kept for error reports.

use super::{
    process::output_pipe,
    process_table::{Child, ChildTty, ProcessTable},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    io,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::Notify};

const LINES_MAX: usize = 20;
const LINE_CHARS_MAX: usize = 400;
/// How long to wait for the rest of the output after the program has ended.
const DRAIN_MS_MAX: u64 = 1_000;

/// The last lines that a program wrote to standard output and standard error. Clones share the lines.
#[derive(Clone, Default)]
pub(crate) struct ChildOutput {
    lines: Arc<Mutex<Lines>>,
    closed: Arc<Notify>,
}

#[derive(Default)]
struct Lines {
    is_closed: bool,
    complete: VecDeque<String>,
    unfinished: String,
}

impl ChildOutput {
    /// Starts `command` with its output captured and an empty standard input.
    pub(crate) fn spawn(&self, processes: &ProcessTable, command: &mut Command) -> io::Result<Child> {
        let (mut from, to) = output_pipe()?;
        command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        let child = processes.spawn(command, ChildTty::None)?;
        // The command holds the writing ends; as long as it does, the end of the output cannot be detected.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let output = self.clone();
        tokio::spawn(async move {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buf).await {
                output.append(&String::from_utf8_lossy(&buf[..n]));
            }
            output.lines.lock().is_closed = true;
            output.closed.notify_waiters();
        });
        Ok(child)
    }

    /// Waits until all output was read: the end of a program is often known before its last lines. Waits at most `limit` (and one
    /// second), since a descendant may keep the stream open.
    pub(crate) async fn wait_closed(&self, limit: Duration) {
        let closed = self.closed.notified();
        if !self.lines.lock().is_closed {
            let _ = tokio::time::timeout(limit.min(Duration::from_millis(DRAIN_MS_MAX)), closed).await;
        }
    }

    fn append(&self, text: &str) {
        let mut lines = self.lines.lock();
        for c in text.chars() {
            if c == '\n' {
                let line = std::mem::take(&mut lines.unfinished);
                if lines.complete.len() == LINES_MAX {
                    lines.complete.pop_front();
                }
                lines.complete.push_back(line);
            } else if !c.is_control() && lines.unfinished.len() < LINE_CHARS_MAX {
                lines.unfinished.push(c);
            }
        }
    }

    /// The kept lines that are not blank, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let lines = self.lines.lock();
        let unfinished = (!lines.unfinished.is_empty()).then(|| lines.unfinished.clone());
        lines.complete.iter().cloned().chain(unfinished).filter(|line| !line.trim().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_keeps_its_last_lines_and_bounds_them() {
        let output = ChildOutput::default();
        for n in 0..100 {
            output.append(&format!("line {n}\nhalf"));
            output.append(&format!(" of {}\r\n", "x".repeat(10_000)));
        }
        output.append("tail");
        let lines = output.last_lines();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], "tail");
        assert_eq!(lines[LINES_MAX - 2], "line 99");
        assert!(lines.iter().all(|line| line.len() <= LINE_CHARS_MAX));
    }
}
