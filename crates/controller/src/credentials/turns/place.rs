//! A place in the line for a credential, which its owner leaves by dropping it.

use super::CredentialTurns;
use anteroom_store::TurnOwner;
use anteroom_wire::CredentialId;
use std::sync::Arc;

/// A place in the line, or the turn itself.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) turns: Arc<CredentialTurns>,
    pub(super) at: At,
}

/// Where it is kept.
#[derive(Debug)]
pub(super) enum At {
    /// In memory: the number of the place.
    Memory(CredentialId, u64),
    /// In the database, for all hosts of a cluster.
    Database(TurnOwner),
}

impl Drop for Place {
    fn drop(&mut self) {
        match &self.at {
            At::Memory(credential, number) => self.turns.leave(credential, *number),
            At::Database(owner) => {
                if let Some(shared) = &self.turns.shared {
                    shared.release(&self.turns, owner.clone());
                }
            }
        }
    }
}
