//! Checks a stored credential with the tool's status command.

use crate::{agent::Agent, capture::status, sign_in::active_claim::ActiveClaim};
use anteroom_screen::bounded;
use anteroom_wire::agent::UseEvent;

/// Runs the status command and reports the result as an event. Returns the exit code.
pub(super) async fn run(agent: &Agent, claim: &ActiveClaim) -> i32 {
    let report = status::run(agent, claim).await;
    let signed_in = report.signed_in.is_ok();
    let detail = match report.signed_in {
        Ok(()) => report.last_line,
        Err(reason) if report.last_line.is_empty() => reason,
        Err(reason) => format!("{reason}: {}", report.last_line),
    };
    let (detail, conclusive) = (bounded(&detail), report.conclusive);
    agent.events.push(UseEvent::Checked { signed_in, detail, conclusive });
    report.code
}
