//! The turns of the uses of a credential. A tool may replace its tokens during a use, and a provider accepts a replaced token only once:
//! of two machines with the same bytes one would lose. So a credential whose tool may do that is in one machine at a time.
//!
//! A session waits for its turn before it waits for a machine, and keeps the turn until its machine is removed. A turn is in memory only:
//! it ends with its supervisor, and the next server takes it again for each machine that it adopts.

mod lease_wait;

use crate::api_error::ApiError;
use anteroom_wire::{CredentialId, Problem, SessionId};
use lease_wait::LeaseWait;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// Sessions that wait for a turn of one credential; a further one is rejected. Each is a command whose caller waits.
pub const USES_WAITING_MAX: usize = 16;
/// How long a lease waits for the end of a use, seconds. It is one request; most checks take less.
pub const LEASE_WAIT_S_MAX: u64 = 20;

/// The turns of all credentials.
#[derive(Debug)]
pub struct CredentialTurns {
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
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
    turns: Arc<CredentialTurns>,
    credential: CredentialId,
    session: SessionId,
    number: u64,
}

/// The turn of a session; dropping it gives the turn to the next one.
#[derive(Debug)]
pub struct CredentialTurn {
    turns: Arc<CredentialTurns>,
    credential: CredentialId,
    number: u64,
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
        Self { lines: Mutex::default(), changed: watch::channel(()).0 }
    }
}

impl CredentialTurns {
    /// Joins the line for a credential.
    ///
    /// # Errors
    /// [`Problem::CredentialInUse`]: [`USES_WAITING_MAX`] sessions wait already.
    pub fn join(self: &Arc<Self>, credential: &CredentialId, session: &SessionId) -> Result<TurnTicket, ApiError> {
        let waiting = self.lines.lock().by_credential.get(credential).map_or(0, |line| line.waiting.len());
        if waiting >= USES_WAITING_MAX {
            let detail = format!("{waiting} sessions wait for their turn with this credential already");
            return Err(ApiError::new(Problem::CredentialInUse, detail));
        }
        Ok(self.join_again(credential, session))
    }

    /// Joins the line for a session that was accepted before.
    pub fn join_again(self: &Arc<Self>, credential: &CredentialId, session: &SessionId) -> TurnTicket {
        let mut lines = self.lines.lock();
        let number = lines.take_number();
        lines.by_credential.entry(credential.clone()).or_default().waiting.push_back(number);
        drop(lines);
        TurnTicket { turns: Arc::clone(self), credential: credential.clone(), session: session.clone(), number }
    }

    /// The turn of a session whose machine has the credential already.
    pub fn hold(self: &Arc<Self>, credential: &CredentialId, session: &SessionId) -> CredentialTurn {
        let mut lines = self.lines.lock();
        let number = lines.take_number();
        lines.by_credential.entry(credential.clone()).or_default().holders.push((number, Some(session.clone())));
        drop(lines);
        CredentialTurn { turns: Arc::clone(self), credential: credential.clone(), number }
    }

    /// Whether a session uses the credential or waits for it.
    pub fn is_in_use(&self, credential: &CredentialId) -> bool {
        self.lines.lock().by_credential.contains_key(credential)
    }

    /// Waits until no session uses the credential, before those that wait in the line: a lease only reads.
    ///
    /// # Errors
    /// [`Problem::CredentialInUse`]: not within [`LEASE_WAIT_S_MAX`].
    pub async fn wait_for_lease(self: &Arc<Self>, credential: &CredentialId) -> Result<CredentialTurn, ApiError> {
        let mut changes = self.changed.subscribe();
        let _waiting = LeaseWait::begin(self, credential);
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(turn) = self.try_hold_for_lease(credential) {
                    return turn;
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(LEASE_WAIT_S_MAX), wait).await {
            Ok(turn) => Ok(turn),
            Err(_) => {
                let holder = self.holder(credential).map_or_else(String::new, |session| format!("{session} "));
                let detail = format!("{holder}uses it, and did not end within {LEASE_WAIT_S_MAX} s");
                Err(ApiError::new(Problem::CredentialInUse, detail))
            }
        }
    }

    fn try_hold_for_lease(self: &Arc<Self>, credential: &CredentialId) -> Option<CredentialTurn> {
        let mut lines = self.lines.lock();
        let line = lines.by_credential.get(credential);
        if line.is_some_and(|line| line.holders.iter().any(|(_, session)| session.is_some())) {
            return None;
        }
        let number = lines.take_number();
        lines.by_credential.entry(credential.clone()).or_default().holders.push((number, None));
        drop(lines);
        Some(CredentialTurn { turns: Arc::clone(self), credential: credential.clone(), number })
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
    pub fn try_acquire(self) -> Result<CredentialTurn, (Self, OtherUse)> {
        match self.acquire_number() {
            // Dropping this ticket removes its place in the line.
            Ok(number) => {
                Ok(CredentialTurn { turns: Arc::clone(&self.turns), credential: self.credential.clone(), number })
            }
            Err(other) => Err((self, other)),
        }
    }

    fn acquire_number(&self) -> Result<u64, OtherUse> {
        let mut lines = self.turns.lines.lock();
        let number = lines.take_number();
        let line = lines.by_credential.entry(self.credential.clone()).or_default();
        let before = line.waiting.iter().take_while(|waiting| **waiting != self.number).count();
        if before > 0 || !line.holders.is_empty() || line.leases_waiting > 0 {
            let session = line.holders.iter().find_map(|(_, session)| session.clone());
            return Err(OtherUse { session, position: u32::try_from(before + 1).unwrap_or(u32::MAX) });
        }
        line.holders.push((number, Some(self.session.clone())));
        Ok(number)
    }

    /// Waits for the turn; calls `on_wait` each time that it waits for another session or place than before.
    pub async fn acquire(self, mut on_wait: impl FnMut(&OtherUse)) -> CredentialTurn {
        let mut changes = self.turns.changed.subscribe();
        let (mut ticket, mut reported) = (self, None);
        loop {
            changes.borrow_and_update();
            let other = match ticket.try_acquire() {
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
            let _ = changes.changed().await;
        }
    }
}

impl Drop for TurnTicket {
    fn drop(&mut self) {
        self.turns.leave(&self.credential, self.number);
    }
}

impl Drop for CredentialTurn {
    fn drop(&mut self) {
        self.turns.leave(&self.credential, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn session(number: u8) -> SessionId {
        SessionId::from_parts(1, [number; 10])
    }

    fn credential() -> CredentialId {
        CredentialId::from_parts(1, [9; 10])
    }

    #[tokio::test]
    async fn r16_turns_are_given_in_the_order_of_arrival_and_a_dropped_turn_or_ticket_frees_its_place() {
        let turns = Arc::new(CredentialTurns::default());
        let first = turns.join(&credential(), &session(1)).unwrap().try_acquire().unwrap();
        let second = turns.join(&credential(), &session(2)).unwrap();
        let third = turns.join(&credential(), &session(3)).unwrap();
        let (second, other) = second.try_acquire().unwrap_err();
        assert_eq!(other, OtherUse { session: Some(session(1)), position: 1 });
        let (third, other) = third.try_acquire().unwrap_err();
        assert_eq!(other, OtherUse { session: Some(session(1)), position: 2 });
        drop(first);
        let (third, other) = third.try_acquire().unwrap_err();
        assert_eq!(other, OtherUse { session: None, position: 2 }, "the second is before it");
        drop(second);
        let third = third.try_acquire().unwrap();
        let of_another = CredentialId::from_parts(1, [8; 10]);
        assert!(turns.is_in_use(&credential()) && !turns.is_in_use(&of_another));
        assert!(
            turns.join(&of_another, &session(4)).unwrap().try_acquire().is_ok(),
            "each credential has its own line"
        );
        drop(third);
        assert!(!turns.is_in_use(&credential()));
    }

    #[tokio::test]
    async fn r16_a_waiting_session_gets_the_turn_when_the_holder_ends() {
        let turns = Arc::new(CredentialTurns::default());
        let adopted = [turns.hold(&credential(), &session(1)), turns.hold(&credential(), &session(2))];
        let mut seen = Vec::new();
        let mut waits =
            Box::pin(turns.join_again(&credential(), &session(3)).acquire(|other| seen.push(other.clone())));
        assert!(waits.as_mut().now_or_never().is_none());
        let [one, two] = adopted;
        drop(one);
        assert!(waits.as_mut().now_or_never().is_none(), "the other machine still has the credential");
        drop(two);
        let turn = waits.await;
        assert_eq!(
            seen.iter().map(|other| other.session.clone()).collect::<Vec<_>>(),
            [Some(session(1)), Some(session(2))]
        );
        drop(turn);
    }

    #[tokio::test(start_paused = true)]
    async fn r16_a_lease_waits_for_the_use_and_is_refused_by_name_after_its_time() {
        let turns = Arc::new(CredentialTurns::default());
        let using = turns.hold(&credential(), &session(1));
        let refused = turns.wait_for_lease(&credential()).await.unwrap_err();
        assert_eq!(refused.problem, Problem::CredentialInUse);
        assert!(refused.detail.contains(session(1).as_str()), "{}", refused.detail);
        let waiting = turns.join(&credential(), &session(2)).unwrap();
        let key = credential();
        let mut lease = Box::pin(turns.wait_for_lease(&key));
        assert!(lease.as_mut().now_or_never().is_none());
        drop(using);
        let (waiting, _) = waiting.try_acquire().unwrap_err();
        let lease = lease.await.unwrap();
        let (waiting, _) = waiting.try_acquire().unwrap_err();
        drop(lease);
        assert!(waiting.try_acquire().is_ok());
    }

    #[tokio::test]
    async fn r16_too_many_waiting_uses_are_refused_by_name() {
        let turns = Arc::new(CredentialTurns::default());
        let _using = turns.hold(&credential(), &session(1));
        let waiting: Vec<_> = (0..USES_WAITING_MAX).map(|_| turns.join(&credential(), &session(2)).unwrap()).collect();
        assert_eq!(turns.join(&credential(), &session(3)).unwrap_err().problem, Problem::CredentialInUse);
        drop(waiting);
        assert!(turns.join(&credential(), &session(3)).is_ok());
    }
}
