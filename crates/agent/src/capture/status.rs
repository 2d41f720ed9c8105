//! Runs the tool's status command, which reports whether the tool is signed in.

use crate::{
    agent::Agent,
    platform::{
        output::Output,
        process::{self, COULD_NOT_START, drop_privileges, find_program},
    },
    sign_in::active_claim::ActiveClaim,
};
use anteroom_screen::finder;
use std::{io, time::Duration};

/// Exit code reported for a command that was killed at its time limit: 128 + SIGKILL.
const KILLED: i32 = 137;

/// The result of the status command.
pub(crate) struct StatusReport {
    /// `Err`: why the tool does not count as signed in.
    pub(crate) signed_in: Result<(), String>,
    /// Whether the command ran and exited by itself: only then the result is conclusive.
    pub(crate) conclusive: bool,
    /// Exit code, or 128 + signal; 127: the command could not be started.
    pub(crate) code: i32,
    /// The last line of its output, masked.
    pub(crate) last_line: String,
}

/// Runs it, at most for `status_ms_max`. Without a status command the tool counts as signed in.
pub(crate) async fn run(agent: &Agent, claim: &ActiveClaim) -> StatusReport {
    if claim.provider.credential.status_argv.is_empty() {
        return StatusReport { signed_in: Ok(()), conclusive: true, code: 0, last_line: String::new() };
    }
    let output = Output::default();
    let exit = run_command(agent, claim, &output).await;
    let lines = output.last_lines();
    let last_line = lines.last().map(|line| finder::masked(line)).unwrap_or_default();
    let conclusive = matches!(exit, Ok(code) if !is_foreign(code));
    let (code, signed_in) = match exit {
        Ok(0) if claim.status_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&lines.join("\n"))) => (0, Ok(())),
        Ok(0) => (0, Err("the tool's status command does not report that it is signed in".to_owned())),
        Ok(code) => (code, Err(format!("the tool's status command ended with {code}"))),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let limit = claim.capture_limits.status_ms_max;
            (KILLED, Err(format!("the tool's status command did not end within {limit} ms")))
        }
        Err(error) => (COULD_NOT_START, Err(format!("the tool's status command did not run: {}", error.kind()))),
    };
    StatusReport { signed_in, conclusive, code, last_line }
}

/// Whether the exit code is not the tool's: a shell found no program (126, 127), or a signal ended it (128 + signal).
fn is_foreign(code: i32) -> bool {
    const SIGNAL_MAX: i32 = 64;
    matches!(code, 126 | 127) || (129..=128 + SIGNAL_MAX).contains(&code)
}

async fn run_command(agent: &Agent, claim: &ActiveClaim, output: &Output) -> io::Result<i32> {
    let argv = &claim.provider.credential.status_argv;
    let [program, args @ ..] = &argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let tool = agent.tool_command(&claim.provider);
    let mut command = process::command(find_program(program, &agent.environment.path));
    command.args(args).envs(&tool.env).current_dir(&tool.dir);
    drop_privileges(&mut command, &agent.environment);
    let mut child = output.spawn(&agent.supervisor.processes, &mut command)?;
    let limit = Duration::from_millis(claim.capture_limits.status_ms_max);
    // At the limit the child is dropped, which kills it.
    let code = tokio::time::timeout(limit, child.wait()).await?;
    output.wait_closed(limit).await;
    Ok(code)
}
