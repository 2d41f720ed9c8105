//! Runs the tool's status command, which reports whether the tool is signed in.

use super::rejection::NotSignedIn;
use crate::{
    agent::Agent,
    platform::{
        child_output::ChildOutput,
        process::{self, EXIT_CODE_NOT_STARTED, drop_privileges, find_program},
    },
    sign_in::active_claim::ActiveClaim,
};
use anteroom_screen::sign_in_finder;
use std::{io, time::Duration};

/// Exit code reported for a command that was killed at its time limit: 128 + SIGKILL.
const KILLED: i32 = 137;

/// The result of the status command.
pub(crate) struct StatusCommandResult {
    /// `Err`: why the tool does not count as signed in.
    pub(crate) signed_in: Result<(), NotSignedIn>,
    /// Whether the command ran and exited by itself: only then the result is conclusive.
    pub(crate) conclusive: bool,
    /// Exit code, or 128 + signal; 127: the command could not be started.
    pub(crate) exit_code: i32,
    /// The last line of its output, masked.
    pub(crate) last_line: String,
}

/// Runs it, at most for `status_ms_max`. Without a status command the tool counts as signed in.
pub(crate) async fn run_status_command(agent: &Agent, claim: &ActiveClaim) -> StatusCommandResult {
    if claim.provider.credential.status_argv.is_empty() {
        return StatusCommandResult { signed_in: Ok(()), conclusive: true, exit_code: 0, last_line: String::new() };
    }
    let output = ChildOutput::default();
    let exit = run_command(agent, claim, &output).await;
    let lines = output.last_lines();
    let last_line = lines.last().map(|line| sign_in_finder::mask_secrets(line)).unwrap_or_default();
    let conclusive = matches!(exit, Ok(code) if !is_foreign(code));
    let (code, signed_in) = match exit {
        Ok(0) if claim.status_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&lines.join("\n"))) => (0, Ok(())),
        Ok(0) => (0, Err(NotSignedIn::NotReported)),
        Ok(code) => (code, Err(NotSignedIn::ExitCode(code))),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            (KILLED, Err(NotSignedIn::Timeout { ms_max: claim.capture_limits.status_ms_max }))
        }
        Err(error) => (EXIT_CODE_NOT_STARTED, Err(NotSignedIn::NotRun(error.kind()))),
    };
    StatusCommandResult { signed_in, conclusive, exit_code: code, last_line }
}

/// Whether the exit code is not the tool's: a shell found no program (126, 127), or a signal ended it (128 + signal).
fn is_foreign(code: i32) -> bool {
    const SIGNAL_MAX: i32 = 64;
    matches!(code, 126 | 127) || (129..=128 + SIGNAL_MAX).contains(&code)
}

async fn run_command(agent: &Agent, claim: &ActiveClaim, output: &ChildOutput) -> io::Result<i32> {
    let argv = &claim.provider.credential.status_argv;
    let [program, args @ ..] = &argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let tool = agent.build_tool_command(&claim.provider);
    let mut command = process::new_command(find_program(program, &agent.environment.exec_search_path));
    command.args(args).envs(&tool.env).current_dir(&tool.dir);
    drop_privileges(&mut command, &agent.environment);
    let mut child = output.spawn(&agent.supervisor.processes, &mut command)?;
    let limit = Duration::from_millis(claim.capture_limits.status_ms_max);
    // At the limit the child is dropped, which kills it.
    let code = tokio::time::timeout(limit, child.wait()).await?;
    output.wait_closed(limit).await;
    Ok(code)
}
