//! The tool's own word on a stored credential.

use crate::{agent::Agent, capture, claim::Owner, events::bounded};
use anteroom_wire::agent::Event;

/// Asks the status command and tells what it says; its exit code.
pub(super) async fn ask(agent: &Agent, owner: &Owner) -> i32 {
    let word = capture::ask_status(agent, owner).await;
    let agrees = word.signed_in.is_ok();
    let detail = match word.signed_in {
        Ok(()) => word.last_line,
        Err(why) if word.last_line.is_empty() => why,
        Err(why) => format!("{why}: {}", word.last_line),
    };
    agent.events.push(Event::Checked { agrees, detail: bounded(&detail), answered: word.answered });
    word.code
}
