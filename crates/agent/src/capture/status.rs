//! The tool's own status command.

use crate::{
    agent::Agent,
    children,
    claim::Owner,
    finder,
    supervisor::{self, Output},
    use_credential::NOT_STARTED,
};
use std::{io, time::Duration};

/// What is said of a command that was killed at its limit: 128 + SIGKILL.
const KILLED: i32 = 137;

/// What the status command said.
pub(crate) struct Word {
    /// `Err`: why it does not say that the tool is signed in.
    pub(crate) signed_in: Result<(), String>,
    /// Whether the command ran to an end of its own: only then this is the tool's word.
    pub(crate) answered: bool,
    /// Exit code, or 128 + signal; 127: it could not be started.
    pub(crate) code: i32,
    /// The last line that it wrote, masked.
    pub(crate) last_line: String,
}

/// Asks it, at most for `status_ms_max`. A provider without such a command has no objection.
pub(crate) async fn ask(agent: &Agent, owner: &Owner) -> Word {
    if owner.provider.credential.status_argv.is_empty() {
        return Word { signed_in: Ok(()), answered: true, code: 0, last_line: String::new() };
    }
    let output = Output::default();
    let ran = run(agent, owner, &output).await;
    let lines = output.last_lines();
    let last_line = lines.last().map(|line| finder::masked(line)).unwrap_or_default();
    let answered = matches!(ran, Ok(code) if !is_foreign(code));
    let (code, signed_in) = match ran {
        Ok(0) if owner.status.as_ref().is_none_or(|pattern| pattern.is_match(&lines.join("\n"))) => (0, Ok(())),
        Ok(0) => (0, Err("the tool's status command does not say that it is signed in".to_owned())),
        Ok(code) => (code, Err(format!("the tool's status command ended with {code}"))),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let limit = owner.capture.status_ms_max;
            (KILLED, Err(format!("the tool's status command did not end within {limit} ms")))
        }
        Err(error) => (NOT_STARTED, Err(format!("the tool's status command did not run: {}", error.kind()))),
    };
    Word { signed_in, answered, code, last_line }
}

/// An end that is not the tool's own: a shell found no program (126, 127), or a signal ended it (128 + signal).
fn is_foreign(code: i32) -> bool {
    const SIGNAL_MAX: i32 = 64;
    matches!(code, 126 | 127) || (129..=128 + SIGNAL_MAX).contains(&code)
}

async fn run(agent: &Agent, owner: &Owner, output: &Output) -> io::Result<i32> {
    let argv = &owner.provider.credential.status_argv;
    let [program, args @ ..] = &argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let start = agent.tool_start(&owner.provider);
    let mut command = children::command(supervisor::find_program(program, &agent.place.path));
    command.args(args).envs(&start.env).current_dir(&start.dir);
    supervisor::become_person(&mut command, &agent.place);
    let mut child = output.capture(&agent.children, &mut command)?;
    let limit = Duration::from_millis(owner.capture.status_ms_max);
    // Dropped at the limit, which kills it.
    let code = tokio::time::timeout(limit, child.wait()).await?;
    output.ended(limit).await;
    Ok(code)
}
