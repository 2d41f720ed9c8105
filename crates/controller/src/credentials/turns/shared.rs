//! The turns of all hosts of a cluster, in the database.

use super::{CredentialTurns, OtherUse};
use crate::{api_error::chain, random};
use anteroom_store::{Store, StoreError, TurnOutcome, TurnOwner};
use anteroom_wire::{CredentialId, SessionId, backoff::Backoff};
use std::{sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often one that waits looks again: nothing signals that another host gave a turn back, milliseconds.
pub(super) const LOOK_MS: u64 = 250;
/// The first and the longest wait between tries to give a turn back, milliseconds.
const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 2_000;

/// What reaches the turns in the database.
#[derive(Debug)]
pub(super) struct SharedTurns {
    store: Store,
    process: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl SharedTurns {
    pub(super) fn new(store: Store, tasks: TaskTracker, stop: CancellationToken) -> Self {
        // The database has numbers of 63 bits.
        Self { store, process: u64::from_le_bytes(random::random_bytes()) >> 1, tasks, stop }
    }

    pub(super) fn of_session(&self, credential: &CredentialId, session: &SessionId) -> TurnOwner {
        TurnOwner {
            id: session.to_string(),
            credential: credential.clone(),
            session: Some(session.clone()),
            process: self.process,
        }
    }

    pub(super) fn of_lease(&self, credential: &CredentialId) -> TurnOwner {
        let id = hex::encode(random::random_bytes::<16>());
        TurnOwner { id, credential: credential.clone(), session: None, process: self.process }
    }

    pub(super) async fn take(&self, owner: &TurnOwner, waiting_max: Option<usize>) -> Result<TurnOutcome, StoreError> {
        self.store.take_credential_turn(owner, waiting_max).await
    }

    /// Takes the turn; the error is what it waits for, as far as the database can be used.
    pub(super) async fn try_take(&self, owner: &TurnOwner) -> Result<(), OtherUse> {
        match self.take(owner, None).await {
            Ok(TurnOutcome::Held) => Ok(()),
            Ok(TurnOutcome::Waits { session, position }) => Err(OtherUse { session, position }),
            Ok(TurnOutcome::Full { .. }) => Err(OtherUse { session: None, position: 1 }),
            Err(error) => {
                tracing::warn!(outcome = "turn_not_taken", credential = %owner.credential, error = %chain(&error), "the turn of a credential cannot be asked for; retrying");
                Err(OtherUse { session: None, position: 1 })
            }
        }
    }

    pub(super) async fn hold(&self, owner: &TurnOwner) -> Result<(), StoreError> {
        self.store.hold_credential_turn(owner).await
    }

    pub(super) async fn is_in_use(&self, credential: &CredentialId) -> Result<bool, StoreError> {
        self.store.is_credential_in_use(credential).await
    }

    pub(super) async fn release_earlier(&self) -> Result<(), StoreError> {
        self.store.release_turns_of_earlier_processes(self.process).await
    }

    /// Gives a turn or a place back. Not while the server stops: its machines go on, and the next process takes their turns over and gives
    /// the others back.
    pub(super) fn release(&self, turns: &Arc<CredentialTurns>, owner: TurnOwner) {
        if self.stop.is_cancelled() {
            return;
        }
        let (store, stop, turns) = (self.store.clone(), self.stop.clone(), Arc::clone(turns));
        self.tasks.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
            while let Err(error) = store.release_credential_turn(&owner).await {
                tracing::warn!(outcome = "turn_not_released", credential = %owner.credential, error = %chain(&error), "the turn of a credential was not given back; retrying");
                if stop.run_until_cancelled(tokio::time::sleep(backoff.next_delay())).await.is_none() {
                    return;
                }
            }
            turns.changed.send_replace(());
        });
    }
}
