//! What is known of a session while it lives, and the register of those that live.

use super::{lifecycle::Delivery, status::Progress};
use crate::clock;
use crate::{
    egress::{EgressSummary, MachineGate},
    tunnel::{Activity, CloseSignal},
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{MachineId, Problem, SessionId, agent::SignIn, provider::Provider};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A session that lives on this host.
#[derive(Debug)]
pub struct ActiveSession {
    /// Which.
    pub id: SessionId,
    /// When this server took it up.
    pub born: Instant,
    /// The same moment, milliseconds since 1970.
    pub born_at_ms: u64,
    /// When somebody last used it.
    pub activity: Arc<Activity>,
    /// Ends with the session, with the reason that sockets are closed with.
    pub close_signal: CloseSignal,
    /// Someone asked for another machine.
    pub restart: Notify,
    /// What its machine asked the egress gate for.
    pub egress: Mutex<EgressSummary>,
    /// Its machine's way out.
    pub gate: OnceLock<MachineGate>,
    /// Held by the one who changes the method.
    pub switching: tokio::sync::Mutex<()>,
    facts: watch::Sender<SessionState>,
}

/// What the owner knows. One writer for each part: the owner for the machine, the agent's events for the sign-in.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// Its tool, as it is for the chosen method.
    pub provider: Arc<Provider>,
    /// 1 for the first machine.
    pub generation: u32,
    /// The present machine.
    pub machine: Option<MachineId>,
    /// The hash of its token.
    pub agent_token: Option<Sha256Hex>,
    /// How far it is.
    pub progress: Progress,
    /// The sign-in as the agent told it last.
    pub sign_in: SignIn,
    /// When the device code was shown, milliseconds since 1970.
    pub device_code_at_ms: Option<u64>,
    /// The last event of the present machine.
    pub event_seen: u64,
    /// Whether the present machine has a credential that nobody has answered for good.
    pub offered: bool,
    /// The present machine has a credential that stays in it.
    pub kept: bool,
    /// Deliveries that are being answered.
    pub deliveries: u32,
    /// Whether further deliveries count no more: the machine is about to be stopped.
    pub shut: bool,
    /// Desktop viewers connected.
    pub viewers: u32,
    /// Ends with the present machine.
    pub sockets: CloseSignal,
    /// Counts timeline entries and row changes, so that whoever watches looks again.
    pub told: u64,
}

impl ActiveSession {
    /// A session whose owner is about to start; it ends when `server` does, or before. `provider` is the descriptor as it is for the
    /// session's method ([`Provider::with_method`]).
    pub fn new(id: SessionId, provider: Arc<Provider>, generation: u32, server: &CloseSignal) -> Arc<Self> {
        let close_signal = server.child();
        let facts = SessionState {
            provider,
            generation,
            machine: None,
            agent_token: None,
            progress: Progress::Queued { position: 1 },
            sign_in: SignIn::default(),
            device_code_at_ms: None,
            event_seen: 0,
            offered: false,
            kept: false,
            deliveries: 0,
            shut: false,
            viewers: 0,
            sockets: close_signal.child(),
            told: 0,
        };
        Arc::new(Self {
            id,
            born: Instant::now(),
            born_at_ms: clock::now(),
            activity: Arc::new(Activity::new()),
            close_signal,
            restart: Notify::new(),
            egress: Mutex::new(EgressSummary::new(NAMES_MAX)),
            gate: OnceLock::new(),
            switching: tokio::sync::Mutex::new(()),
            facts: watch::channel(facts).0,
        })
    }

    /// A look at the state without a copy of it.
    pub(super) fn peek(&self) -> watch::Ref<'_, SessionState> {
        self.facts.borrow()
    }

    /// What is so now.
    pub fn facts(&self) -> SessionState {
        self.facts.borrow().clone()
    }

    /// Its tool, as it is for the method that was chosen last: a machine that is claimed from now on is claimed with this.
    pub fn provider(&self) -> Arc<Provider> {
        Arc::clone(&self.facts.borrow().provider)
    }

    /// Tells of every change.
    pub fn watch(&self) -> watch::Receiver<SessionState> {
        self.facts.subscribe()
    }

    /// Changes what is known and tells everybody.
    pub fn change(&self, change: impl FnOnce(&mut SessionState)) {
        self.facts.send_modify(change);
    }

    /// The row or the timeline changed: whoever watches shall look again.
    pub fn tell(&self) {
        self.facts.send_modify(|facts| facts.told += 1);
    }

    /// Changes the progress.
    pub fn set(&self, progress: Progress) {
        self.facts.send_modify(|facts| facts.progress = progress);
    }

    /// The row has ended for this reason: everything that serves the session closes with it.
    pub fn close(&self, why: Problem) {
        self.close_signal.close(why);
        self.tell();
    }

    /// Counts a viewer in.
    ///
    /// # Errors
    /// There are `viewers_max` already.
    pub fn join(self: &Arc<Self>, viewers_max: u32) -> Result<Viewer, Problem> {
        let joined = self.facts.send_if_modified(|facts| {
            let room = facts.viewers < viewers_max;
            facts.viewers += u32::from(room);
            room
        });
        if joined { Ok(Viewer(Arc::clone(self))) } else { Err(Problem::TooManyViewers) }
    }

    /// A delivery is being answered, until what this returns is dropped; `None`: the machine is about to be stopped, which
    /// waits for no further one.
    pub fn receive(self: &Arc<Self>) -> Option<Receiving> {
        let counted = self.facts.send_if_modified(|facts| {
            facts.deliveries += u32::from(!facts.shut);
            !facts.shut
        });
        counted.then(|| Receiving(Arc::clone(self)))
    }

    /// Counts no further delivery; tells whether one is being answered at this moment.
    pub fn shut(&self) -> Delivery {
        let mut delivery = Delivery::None;
        self.facts.send_modify(|facts| {
            facts.shut = true;
            delivery = facts.delivery();
        });
        delivery
    }

    /// Summary of the egress decisions of this session.
    pub fn egress_summary(&self) -> MutexGuard<'_, EgressSummary> {
        self.egress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hosts that the egress summary of one session counts separately.
const NAMES_MAX: usize = 200;

/// One desktop viewer; dropping it counts it out.
#[derive(Debug)]
pub struct Viewer(Arc<ActiveSession>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.change(|facts| facts.viewers = facts.viewers.saturating_sub(1));
    }
}

/// One delivery that is being answered; dropping it says that it was.
#[derive(Debug)]
pub struct Receiving(Arc<ActiveSession>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.change(|facts| facts.deliveries = facts.deliveries.saturating_sub(1));
    }
}

impl SessionState {
    /// Whether the present machine has a credential that nobody has answered yet.
    pub fn delivery(&self) -> Delivery {
        match (self.deliveries, self.offered) {
            (0, false) => Delivery::None,
            (0, true) => Delivery::Offered,
            (_, _) => Delivery::InFlight,
        }
    }
}
