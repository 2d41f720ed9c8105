//! Checks a stored credential with the tool's status command.

use crate::{agent::Agent, capture::status_command, sign_in::active_claim::ActiveClaim};
use anteroom_screen::truncate_text;
use anteroom_wire::agent::CredentialUseEvent;

/// Runs the status command and reports the result as an event. Returns the exit code.
pub(super) async fn run_check(agent: &Agent, claim: &ActiveClaim) -> i32 {
    let report = status_command::run_status_command(agent, claim).await;
    let signed_in = report.signed_in.is_ok();
    let detail = match report.signed_in {
        Ok(()) => report.last_line,
        Err(reason) if report.last_line.is_empty() => reason.to_string(),
        Err(reason) => format!("{reason}: {}", report.last_line),
    };
    let (detail, conclusive) = (truncate_text(&detail), report.conclusive);
    agent.events.push(CredentialUseEvent::Checked { signed_in, detail: detail.into(), conclusive });
    report.exit_code
}
