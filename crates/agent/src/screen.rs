//! Watches the terminal's screen for the address and the code, from the claim on: only when it changed, at most four
//! times a second.

use crate::agent::Agent;
use anteroom_wire::agent::UrlSource;
use std::{sync::Arc, time::Duration};

/// Between two looks.
const LOOK_EVERY_MS: u64 = 250;

/// Looks, for ever.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let owner = agent.claimed().await;
    if owner.finder.is_idle() {
        return;
    }
    let mut changes = agent.terminal.changes();
    // The tool may have written before this began to listen.
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        // What comes within this pause is seen by the one look after it.
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        changes.mark_unchanged();
        let (Ok(lines), Ok(width)) = (agent.terminal.screen().await, agent.terminal.width().await) else { continue };
        let found = owner.finder.look(&lines, width);
        if let Some(url) = found.url {
            agent.board.url(url, UrlSource::Screen, owner.provider.sign_in.link_from);
        }
        if let Some(code) = found.code {
            agent.board.device_code(code);
        }
    }
}
