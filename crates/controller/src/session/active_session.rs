//! The in-memory state of a session that runs on this server.

mod connected_helpers;
mod current_machine;
mod deliveries_in_flight;
mod desktop_viewers;
mod device_code;
mod sign_in_changes;

use super::{
    changes::SessionChanges, egress_faults::EgressFaults, lifecycle::DeliveryState, request_rates::RequestRates,
    status::Progress, timeline::KindBudget,
};
use crate::unix_time;
use anteroom_egress::{EgressSummary, MachineEgressGate};
use anteroom_store::Sha256Hex;
use anteroom_tunnel::{CloseCause, CloseSignal, SessionActivity};
use anteroom_wire::{EndReason, MachineId, SessionId, provider::Provider, webhook::EventType};
pub use connected_helpers::{ConnectedHelpers, HelperConnection};
pub use current_machine::{CurrentMachine, MachineHost, MachineSignIn, Moment, ReportedPage};
pub use deliveries_in_flight::DeliveriesInFlight;
use desktop_viewers::DesktopPlaces;
pub use desktop_viewers::{DesktopPlace, ViewerAccess};
pub use device_code::DeviceCodeState;
use parking_lot::{Mutex, MutexGuard};
pub use sign_in_changes::{SIGN_IN_CHANGES_MAX, SignInChange, SignInChanges};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

/// A session that runs on this server.
#[derive(Debug)]
pub struct ActiveSession {
    /// The session's id.
    pub id: SessionId,
    /// When this server started or resumed it.
    pub started: Instant,
    /// The same moment, milliseconds since 1970.
    pub started_at_ms: u64,
    /// How long it waited for its first machine before this server started or resumed it.
    pub waited_before: OnceLock<Duration>,
    /// When its wait in the queue for the first machine ended, if it had to wait.
    pub left_queue: OnceLock<Instant>,
    /// When the session was last used.
    pub activity: Arc<SessionActivity>,
    /// Closes the session's sockets when the session ends, with the reason.
    pub close_signal: CloseSignal,
    /// Signals that a caller requested another machine.
    pub restart_requested: Notify,
    /// Summary of its machine's requests to the egress gate.
    pub egress: Mutex<EgressSummary>,
    /// The failed requests of its machines that can explain why its tool failed.
    pub egress_faults: Mutex<EgressFaults>,
    /// The egress gate of its machine.
    pub egress_gate: OnceLock<MachineEgressGate>,
    /// A permit for each terminal that may be open.
    pub terminal_permits: Arc<Semaphore>,
    /// A permit for each exec channel that may be open.
    pub exec_permits: Arc<Semaphore>,
    /// The rates of what its viewers and its machine may repeat.
    pub request_rates: RequestRates,
    /// Held while the sign-in method is changed.
    pub method_lock: tokio::sync::Mutex<()>,
    /// The entries that its timeline has, by kind.
    pub timeline_budget: Mutex<KindBudget>,
    /// Whether the last request for a WebSocket arrived without `Upgrade`; the next request for a ticket is refused with that cause.
    pub upgrade_is_missing: AtomicBool,
    /// What was reported to the webhook's receivers about each machine, by its generation.
    pub reported_to_webhook: Mutex<BTreeSet<(u32, EventType)>>,
    /// Who has a place at the desktop.
    desktop_places: Mutex<DesktopPlaces>,
    changes: OnceLock<Arc<SessionChanges>>,
    state: watch::Sender<SessionState>,
}

/// The state of a running session. Each part has one writer: the supervisor for the machine, the agent's events for the sign-in.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// The provider descriptor, resolved for the chosen method.
    pub provider: Arc<Provider>,
    /// The current machine; `None`: none is requested yet, or the last one is lost.
    pub machine: Option<CurrentMachine>,
    /// The progress of the session.
    pub progress: Progress,
    /// How long sessions at its position in the queue usually wait, seconds.
    pub queue_wait_s: Option<u64>,
    /// The session whose use of the same credential must end first.
    pub waits_for_use: Option<SessionId>,
    /// Deliveries that are being answered.
    pub deliveries: DeliveriesInFlight,
    /// Connected desktop viewers.
    pub desktop_viewers: u32,
    /// Connected helpers.
    pub helpers: ConnectedHelpers,
    /// Closes the sockets to the current machine and those that wait for it.
    pub machine_close_signal: CloseSignal,
    /// Incremented on timeline entries and row changes, so that subscribers reload.
    pub change_count: u64,
}

impl ActiveSession {
    /// A session whose supervisor is about to start. Its sockets close when `server` does, or before. `provider` is the
    /// descriptor, resolved for the session's method ([`Provider::with_method`]).
    pub fn new(id: SessionId, provider: Arc<Provider>, server: &CloseSignal) -> Arc<Self> {
        let close_signal = server.child();
        let state = SessionState {
            provider,
            machine: None,
            progress: Progress::Queued { position: 1 },
            queue_wait_s: None,
            waits_for_use: None,
            deliveries: DeliveriesInFlight::default(),
            desktop_viewers: 0,
            helpers: ConnectedHelpers::default(),
            machine_close_signal: close_signal.child(),
            change_count: 0,
        };
        Arc::new(Self {
            id,
            started: Instant::now(),
            started_at_ms: unix_time::now_unix_ms(),
            waited_before: OnceLock::new(),
            left_queue: OnceLock::new(),
            activity: Arc::new(SessionActivity::new()),
            close_signal,
            restart_requested: Notify::new(),
            egress: Mutex::new(EgressSummary::new(EGRESS_HOSTS_MAX)),
            egress_faults: Mutex::default(),
            egress_gate: OnceLock::new(),
            terminal_permits: Arc::new(Semaphore::new(TERMINALS_MAX)),
            exec_permits: Arc::new(Semaphore::new(EXECS_MAX)),
            request_rates: RequestRates::default(),
            method_lock: tokio::sync::Mutex::new(()),
            timeline_budget: Mutex::default(),
            upgrade_is_missing: AtomicBool::new(false),
            reported_to_webhook: Mutex::default(),
            desktop_places: Mutex::default(),
            changes: OnceLock::new(),
            state: watch::channel(state).0,
        })
    }

    /// Borrows the current state.
    pub(super) fn borrow_state(&self) -> watch::Ref<'_, SessionState> {
        self.state.borrow()
    }

    /// A copy of the current state.
    pub fn state(&self) -> SessionState {
        self.state.borrow().clone()
    }

    /// The provider descriptor, resolved for the method that was chosen last: the next claim uses it.
    pub fn provider(&self) -> Arc<Provider> {
        Arc::clone(&self.state.borrow().provider)
    }

    /// Subscribes to every change of the state.
    pub fn subscribe_state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Records every further change there. Only the first call has an effect.
    pub fn report_changes_to(&self, changes: &Arc<SessionChanges>) {
        let _ = self.changes.set(Arc::clone(changes));
    }

    fn report_change(&self) {
        if let Some(changes) = self.changes.get() {
            changes.record(&self.id);
        }
    }

    /// Changes the state and notifies subscribers.
    pub fn update_state(&self, change: impl FnOnce(&mut SessionState)) {
        self.state.send_modify(change);
        self.report_change();
    }

    /// Notifies subscribers that the row or the timeline changed.
    pub fn notify_subscribers(&self) {
        self.update_state(|state| state.change_count += 1);
    }

    /// Sets the progress.
    pub fn set_progress(&self, progress: Progress) {
        self.update_state(|state| state.progress = progress);
    }

    /// The machine is lost: removes its state. The sockets to it close, and their viewers are asked to reconnect.
    pub(super) fn lose_machine(&self) {
        self.update_state(|state| {
            state.progress = Progress::Lost;
            state.machine = None;
            state.deliveries.resume_counting();
            state.machine_close_signal.close(CloseCause::MachineReplaced);
            state.machine_close_signal = self.close_signal.child();
        });
    }

    /// The session has ended with this reason: closes its sockets and notifies subscribers.
    pub fn close(&self, why: EndReason) {
        self.close_signal.close(CloseCause::SessionEnded(why));
        self.notify_subscribers();
    }

    /// Marks a delivery as in flight until the guard is dropped. `None`: the machine is about to stop, which waits for no
    /// further delivery.
    pub fn begin_delivery(self: &Arc<Self>) -> Option<DeliveryGuard> {
        let counted = self.state.send_if_modified(|state| state.deliveries.begin());
        counted.then(|| DeliveryGuard(Arc::clone(self)))
    }

    /// Stops waiting for further deliveries; returns the state of the delivery at that moment.
    pub fn stop_awaiting_deliveries(&self) -> DeliveryState {
        let mut delivery = DeliveryState::None;
        self.state.send_modify(|state| {
            state.deliveries.stop_counting();
            delivery = state.delivery();
        });
        delivery
    }

    /// Summary of the egress decisions of this session.
    pub fn egress_summary(&self) -> MutexGuard<'_, EgressSummary> {
        self.egress.lock()
    }
}

/// Open terminals of one session: its user's devices, a helper, and `anteroom exec`. The channel has streams for as many and for all other
/// requests.
pub const TERMINALS_MAX: usize = 8;
/// The maximum number of exec channels of one session. An agent has as many.
pub const EXECS_MAX: usize = 8;

/// Hosts that the egress summary of one session counts separately.
pub const EGRESS_HOSTS_MAX: usize = 200;

/// A delivery in flight; dropping it marks it as answered.
#[derive(Debug)]
pub struct DeliveryGuard(Arc<ActiveSession>);

impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        self.0.update_state(|state| state.deliveries.finish());
    }
}

impl SessionState {
    /// The state of the session's delivery.
    pub fn delivery(&self) -> DeliveryState {
        self.deliveries.delivery_state(self.machine.as_ref().is_some_and(|machine| machine.delivery_pending))
    }

    /// The current machine if it has this number. A report of a machine that was replaced in between applies to no machine.
    pub fn machine_of_generation(&mut self, generation: u32) -> Option<&mut CurrentMachine> {
        self.machine.as_mut().filter(|machine| machine.generation == generation)
    }

    /// The id of the current machine, if this server runs it.
    pub fn machine_id(&self) -> Option<&MachineId> {
        self.machine.as_ref()?.id()
    }

    /// The hash of the agent token of the current machine.
    pub fn agent_token(&self) -> Option<&Sha256Hex> {
        Some(&self.machine.as_ref()?.agent_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, providers::Providers};

    fn session() -> Arc<ActiveSession> {
        let providers = Providers::load(&Config::default()).unwrap();
        let provider = Arc::new(providers.iter().next().unwrap().clone());
        ActiveSession::new(SessionId::from_parts(1, [1; 10]), provider, &CloseSignal::new())
    }

    fn request(session: &ActiveSession, generation: u32) {
        let host = MachineHost::ThisServer(MachineId::from_parts(1, [2; 10]));
        let machine = CurrentMachine::new(host, generation, Sha256Hex::of_bytes(b"token"));
        session.update_state(|state| state.machine = Some(machine));
    }

    fn set_pending(session: &ActiveSession, generation: u32) {
        session.update_state(|state| {
            if let Some(machine) = state.machine_of_generation(generation) {
                machine.delivery_pending = true;
            }
        });
    }

    #[test]
    fn lost_machine_leaves_only_its_deliveries_in_flight_and_closes_its_sockets() {
        let session = session();
        request(&session, 1);
        set_pending(&session, 1);
        let delivery = session.begin_delivery();
        session.stop_awaiting_deliveries();
        let sockets = session.state().machine_close_signal;
        session.lose_machine();
        let state = session.state();
        assert!(state.machine.is_none() && state.machine_id().is_none() && state.agent_token().is_none());
        assert_eq!((state.progress.without_channels(), state.delivery()), (Progress::Lost, DeliveryState::InFlight));
        assert_eq!((sockets.cause(), state.machine_close_signal.cause()), (Some(CloseCause::MachineReplaced), None));
        drop(delivery);
        assert_eq!(session.state().delivery(), DeliveryState::None);
        assert!(session.begin_delivery().is_some(), "deliveries of the next machine are counted");
    }

    #[test]
    fn report_of_a_replaced_machine_does_not_change_the_state_of_the_next_one() {
        let session = session();
        request(&session, 1);
        session.lose_machine();
        set_pending(&session, 1);
        assert_eq!(session.state().delivery(), DeliveryState::None);
        request(&session, 2);
        set_pending(&session, 1);
        assert_eq!(session.state().delivery(), DeliveryState::None);
        set_pending(&session, 2);
        assert_eq!(session.state().delivery(), DeliveryState::Pending);
    }
}
