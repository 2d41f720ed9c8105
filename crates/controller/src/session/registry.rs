//! The table of sessions that run on this server.

use super::{active_session::ActiveSession, changes::SessionChanges};
use anteroom_egress::MachineEgressGate;
use anteroom_store::Sha256Hex;
use anteroom_tunnel::CloseCause;
use anteroom_wire::{MachineId, SessionId};
use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, sync::Arc};

/// The sessions that run on this server, by id.
#[derive(Debug, Default)]
pub struct SessionRegistry {
    sessions: Mutex<HashMap<SessionId, Arc<ActiveSession>>>,
    /// The order in which sessions changed.
    pub changes: Arc<SessionChanges>,
}

impl SessionRegistry {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<ActiveSession>>> {
        self.sessions.lock()
    }

    /// Adds a session. Returns `false` if it is present already.
    pub fn insert(&self, session: &Arc<ActiveSession>) -> bool {
        let mut sessions = self.sessions();
        if sessions.contains_key(&session.id) {
            return false;
        }
        session.report_changes_to(&self.changes);
        sessions.insert(session.id.clone(), Arc::clone(session));
        drop(sessions);
        self.changes.record(&session.id);
        true
    }

    /// The running session of this id.
    pub fn get(&self, id: &SessionId) -> Option<Arc<ActiveSession>> {
        self.sessions().get(id).cloned()
    }

    /// The session whose current machine this is.
    pub fn by_machine(&self, machine: &MachineId) -> Option<Arc<ActiveSession>> {
        self.sessions().values().find(|session| session.borrow_state().machine_id() == Some(machine)).cloned()
    }

    /// Waits until the machine's session runs on this server with its egress gate.
    pub async fn wait_egress_gate(&self, machine: &MachineId) -> MachineEgressGate {
        let mut changes = self.changes.subscribe();
        loop {
            let gate = self.by_machine(machine).and_then(|session| session.egress_gate.get().cloned());
            if let Some(gate) = gate {
                return gate;
            }
            // The sender is a part of this registry.
            let _ = changes.changed().await;
        }
    }

    /// The session whose current machine's agent has this token.
    pub fn by_agent_token(&self, token: &Sha256Hex) -> Option<Arc<ActiveSession>> {
        self.sessions().values().find(|session| session.borrow_state().agent_token() == Some(token)).cloned()
    }

    /// Closes the sockets to the machines of all sessions.
    pub fn close_sockets(&self, cause: CloseCause) {
        let sessions: Vec<_> = self.sessions().values().cloned().collect();
        for session in sessions {
            session.update_state(|state| _ = state.machine_close_signal.close(cause));
        }
    }

    /// Ends all supervisors, which write nothing more, and waits until they have ended. The sessions stay as they are in the database.
    pub async fn abandon_all(&self, cause: CloseCause) {
        let mut changes = self.changes.subscribe();
        while !self.is_empty() {
            let sessions: Vec<_> = self.sessions().values().cloned().collect();
            for session in sessions {
                session.close_signal.close(cause);
            }
            // The sender is a part of this registry.
            let _ = changes.changed().await;
        }
    }

    /// Removes a session whose supervisor has finished.
    pub fn remove(&self, id: &SessionId) {
        self.sessions().remove(id);
        self.changes.record(id);
    }

    /// The number of running sessions.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }

    /// Whether no session runs.
    pub fn is_empty(&self) -> bool {
        self.sessions().is_empty()
    }
}
