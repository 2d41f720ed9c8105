//! Runs the build's programs without a shell, with bounded output and a timeout. Errors contain step, command and last lines.

use super::{build_error::BuildError, progress::BuildStep};
use crate::procfs::{self, ProcessId};
use std::{collections::VecDeque, ffi::OsString, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

/// Number of lines of standard error kept for an error.
const LINES_MAX: usize = 12;
/// The longest line kept, bytes.
const LINE_BYTES_MAX: usize = 400;
/// The largest standard output that is collected, bytes.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// How long a program may take to exit after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(10);

/// The last lines that a program printed.
#[derive(Default)]
pub(super) struct Tail(VecDeque<String>);

/// A program with its arguments.
pub(super) struct BuildCommand {
    step: BuildStep,
    command: Command,
    line: String,
    limit: Duration,
}

/// A running program.
pub(super) struct RunningCommand {
    step: BuildStep,
    line: String,
    limit: Duration,
    pub(super) child: Child,
}

impl BuildCommand {
    /// `name` with `args`, run in `dir`. It inherits the environment except `ANTEROOM_…` variables, which may contain secrets.
    pub(super) fn new<A: Into<OsString>>(
        step: BuildStep,
        limit: Duration,
        dir: &Path,
        name: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let mut line = name.to_owned();
        for arg in &args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        let mut command = Command::new(name);
        command.args(args).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C.UTF-8");
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("ANTEROOM_") {
                command.env_remove(key);
            }
        }
        Self { step, command, line, limit }
    }

    /// Sets a variable of its environment, or removes it.
    pub(super) fn env(mut self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.command.env(key, value),
            None => self.command.env_remove(key),
        };
        self
    }

    /// Sets its standard input.
    pub(super) fn stdin(mut self, stdin: Stdio) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Starts it, with pipes for standard output and standard error.
    pub(super) fn start(mut self) -> Result<RunningCommand, BuildError> {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        match child {
            Ok(child) => Ok(RunningCommand { step: self.step, line: self.line, limit: self.limit, child }),
            Err(source) => Err(BuildError::CommandNotStarted { step: self.step, command: shorten(&self.line), source }),
        }
    }

    /// Runs it until it exits and returns its standard output.
    pub(super) async fn run_for_output(self) -> Result<Vec<u8>, BuildError> {
        let mut running = self.start()?;
        let stdout = running.child.stdout.take();
        let never = CancellationToken::new();
        let (out, ()) = tokio::try_join!(collect(stdout), running.wait_success(&never, |_| ()))?;
        Ok(out)
    }
}

impl RunningCommand {
    /// Waits until it exits and calls `on_line` for every line of standard error. After the timeout, or when `stop` fires, it
    /// gets SIGTERM (on which mmdebstrap removes its files), then SIGKILL.
    pub(super) async fn wait_success(
        mut self,
        stop: &CancellationToken,
        on_line: impl Fn(&str),
    ) -> Result<(), BuildError> {
        let stderr = self.child.stderr.take();
        let mut tail = Tail::default();
        let result = tokio::time::timeout(self.limit, async {
            let all = async {
                read_lines(stderr, |line| {
                    on_line(line);
                    tail.push(line);
                })
                .await;
                self.child.wait().await
            };
            stop.run_until_cancelled(all).await
        })
        .await;
        let result = match result {
            Ok(None) => {
                self.end().await;
                return Err(BuildError::CommandStopped { step: self.step, command: shorten(&self.line) });
            }
            Ok(Some(status)) => Ok(status),
            Err(elapsed) => Err(elapsed),
        };
        match result {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(BuildError::CommandFailed {
                step: self.step,
                command: shorten(&self.line),
                status: status.to_string(),
                last_lines: tail.0.into(),
            }),
            Ok(Err(source)) => {
                Err(BuildError::CommandNotStarted { step: self.step, command: shorten(&self.line), source })
            }
            Err(_) => {
                self.end().await;
                Err(BuildError::CommandTimeout {
                    step: self.step,
                    command: shorten(&self.line),
                    limit_s: self.limit.as_secs(),
                    last_lines: tail.0.into(),
                })
            }
        }
    }

    /// Its process, which is recorded for later builds; `None` when it has exited.
    pub(super) fn process_id(&self) -> Option<ProcessId> {
        ProcessId::from_pid(self.child.id()?)
    }

    /// Ends it and its descendants. mmdebstrap itself ignores signals while it works: its child cleans up, then it exits.
    async fn end(&mut self) {
        let Some(process) = self.process_id() else { return };
        let descendants = procfs::descendants(process.pid);
        for each in descendants.iter().chain([&process]) {
            let pid = i32::try_from(each.pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // It may have exited already.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        if tokio::time::timeout(TERM_TIMEOUT, self.child.wait()).await.is_err() {
            kill_with_descendants(process);
            let _ = self.child.wait().await;
        }
        descendants.into_iter().for_each(ProcessId::kill);
    }
}

/// Kills a process and its descendants.
pub(super) fn kill_with_descendants(process: ProcessId) {
    if process.is_alive() {
        let descendants = procfs::descendants(process.pid);
        process.kill();
        descendants.into_iter().for_each(ProcessId::kill);
    }
}

impl Tail {
    pub(super) fn into_lines(self) -> Vec<String> {
        self.0.into()
    }

    pub(super) fn push(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.0.len() == LINES_MAX {
            self.0.pop_front();
        }
        let end = line.char_indices().map(|(at, _)| at).find(|&at| at >= LINE_BYTES_MAX).unwrap_or(line.len());
        self.0.push_back(line[..end].to_owned());
    }
}

async fn read_lines(from: Option<impl AsyncRead + Unpin>, mut on_line: impl FnMut(&str)) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // A line that is too long is split: a program that prints no line end cannot exhaust the memory.
    loop {
        let consumed = match from.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r');
                line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
                if end.is_some() || line.len() > 4 * LINE_BYTES_MAX {
                    on_line(&String::from_utf8_lossy(&line));
                    line.clear();
                }
                end.map_or(bytes.len(), |end| end + 1)
            }
        };
        from.consume(consumed);
    }
    if !line.is_empty() {
        on_line(&String::from_utf8_lossy(&line));
    }
}

/// Reads everything and keeps at most [`OUTPUT_BYTES_MAX`] bytes; the rest is discarded so that the writer does not block.
async fn collect(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, BuildError> {
    let mut out = Vec::new();
    let Some(from) = from else { return Ok(out) };
    let mut from = BufReader::new(from);
    loop {
        let consumed = match from.fill_buf().await {
            Ok([]) | Err(_) => return Ok(out),
            Ok(bytes) => {
                let capacity = OUTPUT_BYTES_MAX - out.len();
                out.extend_from_slice(&bytes[..bytes.len().min(capacity)]);
                bytes.len()
            }
        };
        from.consume(consumed);
    }
}

/// The beginning of a command line, for a message.
fn shorten(line: &str) -> String {
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Duration, name: &str, args: &[&str]) -> BuildCommand {
        BuildCommand::new(BuildStep::Packages, limit, Path::new("/"), name, args.iter().copied())
    }

    #[tokio::test]
    async fn error_contains_step_command_and_last_lines() {
        let script = "import sys\nfor i in range(40): print('line', i, file=sys.stderr)\nsys.exit(3)";
        let error = run(Duration::from_secs(30), "python3", &["-c", script]).run_for_output().await.unwrap_err();
        let text = error.to_string();
        for part in ["installing packages", "python3", "exit status: 3", "line 39"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("line 2\n"), "{text}");
    }

    #[tokio::test]
    async fn program_is_stopped_after_the_timeout() {
        let error = run(Duration::from_millis(50), "sleep", &["600"]).run_for_output().await.unwrap_err();
        assert!(matches!(error, BuildError::CommandTimeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn descendants_are_stopped_with_the_program() {
        let script = "import subprocess, sys\nchild = subprocess.Popen(['sleep', '600'])\nprint(child.pid, flush=True)\nchild.wait()";
        let mut running = run(Duration::from_secs(60), "python3", &["-c", script]).start().unwrap();
        let mut line = String::new();
        BufReader::new(running.child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let grandchild = ProcessId::from_pid(line.trim().parse().unwrap()).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let error = running.wait_success(&stop, |_| ()).await.unwrap_err();
        assert!(matches!(error, BuildError::CommandStopped { .. }), "{error}");
        let exited = async {
            while grandchild.is_alive() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), exited).await.unwrap();
    }

    #[tokio::test]
    async fn error_contains_the_name_of_a_missing_program() {
        let error = run(Duration::from_secs(5), "no-such-program-anywhere", &[]).run_for_output().await.unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }

    #[tokio::test]
    async fn output_beyond_the_limit_is_discarded() {
        let script = "import sys\nsys.stdout.write('x' * 3000000)";
        let out = run(Duration::from_secs(30), "python3", &["-c", script]).run_for_output().await.unwrap();
        assert_eq!(out.len(), OUTPUT_BYTES_MAX);
    }
}
