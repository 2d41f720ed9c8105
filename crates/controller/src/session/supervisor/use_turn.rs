//! The session's turn with the credential that it uses or renews.

use super::{Supervisor, SupervisorStart};
use crate::{
    credentials::turns::{CredentialTurn, CredentialTurns, OtherUse, TurnTicket},
    session::{active_session::ActiveSession, server_context::ServerContext, status::Progress, timeline::new_entry},
};
use anteroom_store::SessionRow;
use anteroom_wire::{CredentialId, SessionId, TimelineKind, provider::Provider};
use serde_json::json;
use std::sync::Arc;

/// The turn of a session, from the place in the line to the removal of its machine.
#[derive(Debug, Default)]
pub(super) struct UseTurn {
    /// The credential whose turn is needed; `None`: the session uses and renews none, or uses of it run in parallel.
    credential: Option<CredentialId>,
    ticket: Option<TurnTicket>,
    held: Option<CredentialTurn>,
}

impl UseTurn {
    /// The turn of a session that starts or is resumed.
    pub(super) fn new(row: &SessionRow, provider: &Provider, from: &mut SupervisorStart) -> Self {
        let Some(credential) = turn_credential(row, provider).cloned() else { return Self::default() };
        let (mut ticket, mut held) = (None, None);
        match from {
            SupervisorStart::Queue { turn, .. } => ticket = turn.take(),
            SupervisorStart::Adopted { turn, .. } | SupervisorStart::External { turn, .. } => held = turn.take(),
            SupervisorStart::Lost { .. } => {}
        }
        Self { credential: Some(credential), ticket, held }
    }

    /// A place in the line, if the session needs a turn and does not have it.
    pub(super) fn next_ticket(&mut self, turns: &Arc<CredentialTurns>, session: &SessionId) -> Option<TurnTicket> {
        let credential = self.credential.as_ref().filter(|_| self.held.is_none())?;
        Some(self.ticket.take().unwrap_or_else(|| turns.join_again(credential, session)))
    }

    /// The session's turn came.
    pub(super) fn set_held(&mut self, turn: Option<CredentialTurn>) {
        if turn.is_some() {
            self.held = turn;
        }
    }
}

/// The credential whose turn the session needs; `None`: it uses and renews none, or uses of it run in parallel.
pub(crate) fn turn_credential<'a>(row: &'a SessionRow, provider: &Provider) -> Option<&'a CredentialId> {
    let used = row.purpose.credential_use().filter(|_| takes_turns(provider)).map(|using| &using.credential);
    // Uses that run in parallel join no line, so a renewal of such a credential does not wait for them.
    used.or_else(|| row.purpose.renewed_credential())
}

/// Whether uses of this provider's credential take turns.
pub(crate) fn takes_turns(provider: &Provider) -> bool {
    !provider.credential.never_refreshed
}

impl Supervisor {
    /// The place in the line for the session's credential, if it needs a turn.
    pub(super) fn next_turn_ticket(&mut self) -> Option<TurnTicket> {
        self.use_turn.next_ticket(&self.server_context.credential_turns, &self.session.id)
    }
}

/// Waits for the turn, and shows and records that.
pub(super) async fn wait_for_turn(
    server_context: &ServerContext,
    session: &ActiveSession,
    ticket: TurnTicket,
) -> CredentialTurn {
    let mut is_recorded = false;
    let turn = ticket
        .acquire(|OtherUse { session: other, position }| {
            let Some(other) = other else { return };
            session.update_state(|state| {
                state.progress = Progress::Queued { position: *position };
                (state.queue_wait_s, state.waits_for_use) = (None, Some(other.clone()));
            });
            if !is_recorded {
                let sentence =
                    format!("Another use of this credential is running ({other}); this session waits for its turn.");
                let entry = new_entry(TimelineKind::CredentialUseWaiting, sentence)
                    .with_data(json!({ "session": other, "position": position }));
                server_context.timeline.append_in_background(&session.id, entry);
                is_recorded = true;
            }
        })
        .await;
    session.update_state(|state| state.waits_for_use = None);
    if is_recorded {
        let sentence = "The other use of the credential has ended.";
        let entry = new_entry(TimelineKind::CredentialUseTurn, sentence).with_data(json!({}));
        server_context.timeline.append_in_background(&session.id, entry);
    }
    turn
}
