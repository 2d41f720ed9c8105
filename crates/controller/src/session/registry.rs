//! The table of sessions that run on this server.

use super::active_session::ActiveSession;
use anteroom_store::Sha256Hex;
use anteroom_wire::{MachineId, SessionId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The sessions that live on this host.
#[derive(Debug, Default)]
pub struct SessionRegistry(Mutex<HashMap<SessionId, Arc<ActiveSession>>>);

impl SessionRegistry {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<ActiveSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a session; `false`: it is there already.
    pub fn insert(&self, live: &Arc<ActiveSession>) -> bool {
        let mut all = self.all();
        if all.contains_key(&live.id) {
            return false;
        }
        all.insert(live.id.clone(), Arc::clone(live));
        true
    }

    /// A session that lives.
    pub fn get(&self, id: &SessionId) -> Option<Arc<ActiveSession>> {
        self.all().get(id).cloned()
    }

    /// The session whose present machine this is.
    pub fn of_machine(&self, machine: &MachineId) -> Option<Arc<ActiveSession>> {
        self.all().values().find(|live| live.peek().machine.as_ref() == Some(machine)).cloned()
    }

    /// The session whose present machine has this token.
    pub fn of_agent(&self, token: &Sha256Hex) -> Option<Arc<ActiveSession>> {
        self.all().values().find(|live| live.peek().agent_token.as_ref() == Some(token)).cloned()
    }

    /// A session has ended and nothing of it is left.
    pub fn remove(&self, id: &SessionId) {
        self.all().remove(id);
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }
}
