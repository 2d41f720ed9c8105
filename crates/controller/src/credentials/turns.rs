//! The turns of the uses of a credential. A tool may replace its tokens during a use, and a provider accepts a replaced token only once:
//! of two machines with the same bytes one would lose. So a credential whose tool may do that is in one machine at a time.
//!
//! A session waits for its turn before it waits for a machine, and keeps the turn until its machine is removed. A server without a cluster
//! keeps turns in memory: they end with their supervisors, and the next server takes them again for each machine that it adopts. Hosts of a
//! cluster keep them in the database ([`Store::take_credential_turn`](anteroom_store::Store::take_credential_turn)).

mod lease_wait;
mod place;
mod shared;
#[cfg(test)]
mod tests;

use crate::api_error::ApiError;
use anteroom_store::{Store, StoreError, TurnOutcome, TurnOwner};
use anteroom_wire::{CredentialId, Problem, SessionId};
use lease_wait::LeaseWait;
use parking_lot::Mutex;
use place::{At, Place};
use shared::{LOOK_MS, SharedTurns};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Sessions that wait for a turn of one credential; a further one is rejected. Each is a command whose caller waits.
pub const USES_WAITING_MAX: usize = 16;
/// How long a lease waits for the end of a use, seconds. It is one request; most checks take less.
pub const LEASE_WAIT_S_MAX: u64 = 20;

/// The turns of all credentials.
#[derive(Debug)]
pub struct CredentialTurns {
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
    /// `None`: there is no cluster.
    shared: Option<SharedTurns>,
}

#[derive(Debug, Default)]
struct Lines {
    by_credential: HashMap<CredentialId, Line>,
    next_number: u64,
}

/// Who uses one credential, and who waits for it.
#[derive(Debug, Default)]
struct Line {
    /// More than one only after a restart, or while a lease reads the bytes.
    holders: Vec<(u64, Option<SessionId>)>,
    waiting: VecDeque<u64>,
    /// Leases that wait for the end of the uses; no session gets a turn before them.
    leases_waiting: usize,
}

/// A place in the line for a credential; dropping it leaves the line.
#[derive(Debug)]
pub struct TurnTicket {
    place: Place,
    session: SessionId,
    /// Joining the line has taken the turn.
    is_held: bool,
}

/// The turn of a session; dropping it gives the turn to the next one.
#[derive(Debug)]
pub struct CredentialTurn {
    _place: Place,
}

/// What a session waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherUse {
    /// The session that has the turn; `None`: it is read for a lease at the moment.
    pub session: Option<SessionId>,
    /// The place in the line; 1 is next.
    pub position: u32,
}

impl Default for CredentialTurns {
    fn default() -> Self {
        Self { lines: Mutex::default(), changed: watch::channel(()).0, shared: None }
    }
}

impl CredentialTurns {
    /// The turns of this server: those of all hosts if it is one of a cluster.
    pub fn new(store: &Store, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let is_host = store.holder().is_some();
        let shared = is_host.then(|| SharedTurns::new(store.clone(), tasks.clone(), stop.clone()));
        Self { shared, ..Self::default() }
    }

    fn place(self: &Arc<Self>, at: At) -> Place {
        Place { turns: Arc::clone(self), at }
    }

    /// Joins the line for a credential.
    ///
    /// # Errors
    /// [`Problem::CredentialInUse`]: [`USES_WAITING_MAX`] sessions wait already. The database cannot be written.
    pub async fn join(
        self: &Arc<Self>,
        credential: &CredentialId,
        session: &SessionId,
    ) -> Result<TurnTicket, ApiError> {
        let mut ticket = self.join_again(credential, session);
        let waiting = match (&self.shared, &ticket.place.at) {
            (Some(shared), At::Database(owner)) => match shared.take(owner, Some(USES_WAITING_MAX)).await? {
                TurnOutcome::Full { waiting } => Some(waiting),
                outcome @ (TurnOutcome::Held | TurnOutcome::Waits { .. }) => {
                    ticket.is_held = outcome == TurnOutcome::Held;
                    None
                }
            },
            (None, _) | (_, At::Memory(..)) => {
                let waiting = self.lines.lock().by_credential.get(credential).map_or(0, |line| line.waiting.len());
                // Its own place is one of them.
                waiting.checked_sub(1).filter(|others| *others >= USES_WAITING_MAX)
            }
        };
        match waiting {
            None => Ok(ticket),
            Some(waiting) => {
                let detail = format!("{waiting} sessions wait for their turn with this credential already");
                Err(ApiError::new(Problem::CredentialInUse, detail))
            }
        }
    }

    /// Joins the line for a session that was accepted before.
    pub fn join_again(self: &Arc<Self>, credential: &CredentialId, session: &SessionId) -> TurnTicket {
        let at = match &self.shared {
            Some(shared) => At::Database(shared.of_session(credential, session)),
            None => {
                let mut lines = self.lines.lock();
                let number = lines.take_number();
                lines.by_credential.entry(credential.clone()).or_default().waiting.push_back(number);
                At::Memory(credential.clone(), number)
            }
        };
        TurnTicket { place: self.place(at), session: session.clone(), is_held: false }
    }

    /// The turn of a session whose machine has the credential already.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn hold(
        self: &Arc<Self>,
        credential: &CredentialId,
        session: &SessionId,
    ) -> Result<CredentialTurn, StoreError> {
        let at = match &self.shared {
            Some(shared) => {
                let owner = shared.of_session(credential, session);
                shared.hold(&owner).await?;
                At::Database(owner)
            }
            None => self.hold_in_memory(&mut self.lines.lock(), credential, Some(session)),
        };
        Ok(CredentialTurn { _place: self.place(at) })
    }

    fn hold_in_memory(&self, lines: &mut Lines, credential: &CredentialId, session: Option<&SessionId>) -> At {
        let number = lines.take_number();
        lines.by_credential.entry(credential.clone()).or_default().holders.push((number, session.cloned()));
        At::Memory(credential.clone(), number)
    }

    /// The turn of a session that cannot wait for it; `None`: a session uses the credential or waits for it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn try_hold(
        self: &Arc<Self>,
        credential: &CredentialId,
        session: &SessionId,
    ) -> Result<Option<CredentialTurn>, StoreError> {
        let at = match &self.shared {
            Some(shared) => {
                let owner = shared.of_session(credential, session);
                let taken = shared.take(&owner, Some(0)).await?;
                (taken == TurnOutcome::Held).then_some(At::Database(owner))
            }
            None => {
                let mut lines = self.lines.lock();
                let is_free = !lines.by_credential.contains_key(credential);
                is_free.then(|| self.hold_in_memory(&mut lines, credential, Some(session)))
            }
        };
        Ok(at.map(|at| CredentialTurn { _place: self.place(at) }))
    }

    /// Whether a session uses the credential or waits for it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_in_use(&self, credential: &CredentialId) -> Result<bool, StoreError> {
        match &self.shared {
            Some(shared) => shared.is_in_use(credential).await,
            None => Ok(self.lines.lock().by_credential.contains_key(credential)),
        }
    }

    /// Gives back what the server process before this one has left, after its machines were adopted.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn release_those_of_earlier_processes(&self) -> Result<(), StoreError> {
        match &self.shared {
            Some(shared) => shared.release_earlier().await,
            None => Ok(()),
        }
    }

    /// Waits until no session uses the credential, before those that wait in the line: a lease only reads.
    ///
    /// # Errors
    /// [`Problem::CredentialInUse`]: not within [`LEASE_WAIT_S_MAX`].
    pub async fn wait_for_lease(self: &Arc<Self>, credential: &CredentialId) -> Result<CredentialTurn, ApiError> {
        let wait_max = Duration::from_secs(LEASE_WAIT_S_MAX);
        let mut last = None;
        let turn = match &self.shared {
            Some(shared) => {
                let owner = shared.of_lease(credential);
                let place = self.place(At::Database(owner.clone()));
                let taken = tokio::time::timeout(
                    wait_max,
                    self.wait_shared(shared, &owner, |other| {
                        last.clone_from(&other.session);
                    }),
                );
                taken.await.ok().map(|()| CredentialTurn { _place: place })
            }
            None => {
                let turn = tokio::time::timeout(wait_max, self.wait_for_lease_in_memory(credential)).await.ok();
                last = if turn.is_none() { self.holder(credential) } else { None };
                turn
            }
        };
        turn.ok_or_else(|| {
            let holder = last.map_or_else(String::new, |session| format!("{session} "));
            let detail = format!("{holder}uses it, and did not end within {LEASE_WAIT_S_MAX} s");
            ApiError::new(Problem::CredentialInUse, detail)
        })
    }

    async fn wait_for_lease_in_memory(self: &Arc<Self>, credential: &CredentialId) -> CredentialTurn {
        let mut changes = self.changed.subscribe();
        let _waiting = LeaseWait::begin(self, credential);
        loop {
            changes.borrow_and_update();
            if let Some(at) = self.try_hold_for_lease(credential) {
                return CredentialTurn { _place: self.place(at) };
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// Waits for the turn of all hosts.
    async fn wait_shared(&self, shared: &SharedTurns, owner: &TurnOwner, mut on_wait: impl FnMut(&OtherUse)) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let Err(other) = shared.try_take(owner).await else { return };
            on_wait(&other);
            // The sender lives as long as `self`.
            let _ = tokio::time::timeout(Duration::from_millis(LOOK_MS), changes.changed()).await;
        }
    }

    fn try_hold_for_lease(&self, credential: &CredentialId) -> Option<At> {
        let mut lines = self.lines.lock();
        let line = lines.by_credential.get(credential);
        if line.is_some_and(|line| line.holders.iter().any(|(_, session)| session.is_some())) {
            return None;
        }
        Some(self.hold_in_memory(&mut lines, credential, None))
    }

    fn holder(&self, credential: &CredentialId) -> Option<SessionId> {
        let lines = self.lines.lock();
        lines.by_credential.get(credential)?.holders.iter().find_map(|(_, session)| session.clone())
    }

    fn leave(&self, credential: &CredentialId, number: u64) {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.by_credential.get_mut(credential) {
            line.holders.retain(|(holder, _)| *holder != number);
            line.waiting.retain(|waiting| *waiting != number);
        }
        lines.remove_if_unused(credential);
        drop(lines);
        self.changed.send_replace(());
    }
}

impl Lines {
    fn remove_if_unused(&mut self, credential: &CredentialId) {
        let is_unused = |line: &Line| line.holders.is_empty() && line.waiting.is_empty() && line.leases_waiting == 0;
        if self.by_credential.get(credential).is_some_and(is_unused) {
            self.by_credential.remove(credential);
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

impl TurnTicket {
    /// Takes the turn if it is this session's.
    ///
    /// # Errors
    /// What it waits for, with the ticket.
    pub async fn try_acquire(self) -> Result<CredentialTurn, (Self, OtherUse)> {
        if self.is_held {
            return Ok(CredentialTurn { _place: self.place });
        }
        let taken = match (&self.place.at, &self.place.turns.shared) {
            (At::Memory(credential, number), _) => self.acquire_in_memory(credential, *number).map(Some),
            (At::Database(owner), Some(shared)) => shared.try_take(owner).await.map(|()| None),
            (At::Database(_), None) => Ok(None),
        };
        match taken {
            // Dropping this ticket removes its place in the line.
            Ok(Some(at)) => Ok(CredentialTurn { _place: self.place.turns.place(at) }),
            Ok(None) => Ok(CredentialTurn { _place: self.place }),
            Err(other) => Err((self, other)),
        }
    }

    fn acquire_in_memory(&self, credential: &CredentialId, own: u64) -> Result<At, OtherUse> {
        let turns = &self.place.turns;
        let mut lines = turns.lines.lock();
        let line = lines.by_credential.entry(credential.clone()).or_default();
        let before = line.waiting.iter().take_while(|waiting| **waiting != own).count();
        if before > 0 || !line.holders.is_empty() || line.leases_waiting > 0 {
            let session = line.holders.iter().find_map(|(_, session)| session.clone());
            return Err(OtherUse { session, position: u32::try_from(before + 1).unwrap_or(u32::MAX) });
        }
        Ok(turns.hold_in_memory(&mut lines, credential, Some(&self.session)))
    }

    /// Waits for the turn; calls `on_wait` each time that it waits for another session or place than before.
    pub async fn acquire(self, mut on_wait: impl FnMut(&OtherUse)) -> CredentialTurn {
        let turns = Arc::clone(&self.place.turns);
        let mut changes = turns.changed.subscribe();
        let (mut ticket, mut reported) = (self, None);
        loop {
            changes.borrow_and_update();
            let other = match ticket.try_acquire().await {
                Ok(turn) => return turn,
                Err((again, other)) => {
                    ticket = again;
                    other
                }
            };
            if reported.as_ref() != Some(&other) {
                on_wait(&other);
                reported = Some(other);
            }
            // The sender lives as long as this ticket.
            match &turns.shared {
                Some(_) => drop(tokio::time::timeout(Duration::from_millis(LOOK_MS), changes.changed()).await),
                None => drop(changes.changed().await),
            }
        }
    }
}
