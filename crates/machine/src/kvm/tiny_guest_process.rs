//! Runs the tiny guest in a separate process: where KVM is broken, `KVM_RUN` may never return.

use super::tiny_guest::{self, TinyGuestFailure};
use std::{
    io::{self, Write as _},
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// The argument with which a keeper runs the tiny guest instead of a machine.
pub(crate) const TINY_GUEST_ARGUMENT: &str = "--run-tiny-guest";
/// How much of a failed process's output is quoted, characters.
const QUOTE_CHARS_MAX: usize = 240;

/// Runs the keeper `program` with the tiny guest for at most `ms_max` milliseconds.
pub(super) async fn run(program: &Path, ms_max: u64) -> Result<(), TinyGuestFailure> {
    let failed = |error: String| TinyGuestFailure::Process { error };
    let output = Command::new(program)
        .args(["keeper", TINY_GUEST_ARGUMENT])
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_millis(ms_max), output)
        .await
        .map_err(|_| TinyGuestFailure::Timeout { ms: ms_max })?
        .map_err(|error| failed(format!("{}: {error}", program.display())))?;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&output.stderr);
        let quote: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quote: String = quote.chars().take(QUOTE_CHARS_MAX).collect();
        Err(failed(format!("{}, without a result: {quote:?}", output.status)))
    })
}

/// Runs the guest and prints the result.
pub(crate) fn print_result() -> ExitCode {
    let result = tiny_guest::run();
    let printed = serde_json::to_writer(io::stdout(), &result).map_err(io::Error::from);
    match printed.and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

    /// A keeper that runs a shell script.
    fn program(dir: &Path, script: &str) -> std::path::PathBuf {
        let path = dir.join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn guest_that_never_halts_is_a_timeout_and_its_process_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let hangs = program(dir.path(), &format!("echo $$ > {}; while :; do :; done", pid_file.display()));
        let started = Instant::now();
        assert_eq!(run(&hangs, 2_000).await, Err(TinyGuestFailure::Timeout { ms: 2_000 }));
        assert!(started.elapsed() < Duration::from_secs(20));
        let pid = fs::read_to_string(pid_file).unwrap();
        let ended = async {
            while Path::new(&format!("/proc/{}", pid.trim())).exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the process was not killed and reaped");
    }

    #[tokio::test]
    async fn process_without_a_result_is_a_failure_with_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let killed = run(&program(dir.path(), "echo 'no\tmemory' >&2; kill -9 $$"), 20_000).await.unwrap_err();
        assert_eq!(
            killed.to_string(),
            "the process that runs it failed: signal: 9 (SIGKILL), without a result: \"no memory\""
        );
        let absent = run(&dir.path().join("absent"), 20_000).await.unwrap_err();
        assert!(absent.to_string().contains("No such file"), "{absent}");
    }

    #[tokio::test]
    async fn result_of_the_process_is_the_result() {
        let dir = tempfile::tempdir().unwrap();
        let ok = serde_json::to_string(&Ok::<(), TinyGuestFailure>(())).unwrap();
        assert_eq!(run(&program(dir.path(), &format!("echo '{ok}'")), 20_000).await, Ok(()));
        let failure = TinyGuestFailure::UnexpectedExit { exit: "InternalError".into() };
        let failed = serde_json::to_string(&Err::<(), _>(&failure)).unwrap();
        assert_eq!(run(&program(dir.path(), &format!("echo '{failed}'")), 20_000).await, Err(failure));
    }
}
