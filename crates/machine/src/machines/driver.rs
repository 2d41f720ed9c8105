//! The one writer of a machine's state.
//!
//! It hears the keeper, the connection's task and the callers, turns what they say into events, and gives the keeper its
//! orders. That a machine is dead its keeper says; it is removed when its keeper's socket has closed, and at no other moment.

use super::{DriverCommand, Machines, ProcessInfo, Slot, connection, liveness::ActiveTimeDeadline};
use crate::{
    exit_reason::{ExitReason, StopReason},
    keeper::{
        client::KeeperClient,
        control::{CONTROL_PROTOCOL, KeeperCommand, KeeperPhase, Report},
    },
    process::{self, ProcessId},
    receipt::{CleanupChecks, ExitCause, Receipt, StopDetail},
    run_dir::RunDir,
    spec::KeeperConfig,
    state::{Event, State},
};
use anteroom_wire::{MachineId, channel::ECHO_MS_MAX};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Events of the connection's task that may wait.
const EVENTS_MAX: usize = 64;
/// How long the process of a keeper that was killed may take to die with it, milliseconds.
const PROCESS_EXIT_MS_MAX: u64 = 2_000;
/// From hanging up to saving, milliseconds: the guest shall have noticed, so that its copies begin without a connection.
const DISCONNECT_MS: u64 = 100;
/// How long the saving of a state may take, milliseconds: it is a few hundred kB.
const SAVE_MS_MAX: u64 = 120_000;
/// Between two looks at a dying process, milliseconds.
const POLL_INTERVAL_MS: u64 = 5;

/// The state and what is needed to change it.
struct Driver {
    machines: Machines,
    id: MachineId,
    state: watch::Sender<State>,
    began: Instant,
    /// How long it may still take to be ready (anew when the channel is lost), or its keeper to end it or to clear away.
    deadline: ActiveTimeDeadline,
    process_info: Arc<OnceLock<ProcessInfo>>,
    /// Whether it was ready once, under this server or one before it.
    was_ready: bool,
    keeper: Option<ProcessId>,
    /// The keeper's last word on cause it ended.
    ended: Option<(ExitCause, Option<StopDetail>)>,
}

/// Drives a machine from its request to its end.
pub(super) async fn start(machines: Machines, slot: Slot, config: KeeperConfig) {
    let began = Instant::now();
    let path = machines.run_dir_of(&slot.id);
    let program = machines.inner.settings.keeper_program.clone();
    let spawned = tokio::task::spawn_blocking(move || spawn(&path, &program, &config)).await;
    let client = spawned.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (driver, commands, image_hash) = Driver::new(machines, slot, began);
    match client {
        Ok(client) => {
            driver.apply(Event::KeeperFound);
            let first_wait = Duration::from_millis(driver.machines.inner.settings.first_echo_ms);
            driver.drive(client, commands, image_hash, first_wait).await;
        }
        Err(error) => driver.removed(ExitReason::NeverStarted { error: error.to_string() }, None),
    }
}

/// Drives a machine that outlived its server; `incompatible`: why it cannot be this server's and is ended.
pub(super) async fn adopt(machines: Machines, slot: Slot, mut client: KeeperClient, incompatible: Option<StopReason>) {
    let (mut driver, commands, image_hash) = Driver::new(machines, slot, Instant::now());
    let path = driver.machines.run_dir_of(&driver.id);
    driver.was_ready = tokio::task::spawn_blocking(move || RunDir::was_ready(&path)).await.unwrap_or_default();
    if driver.was_ready {
        driver.deadline = driver.liveness_deadline();
    }
    if let Some(why) = incompatible {
        driver.stop(&mut client, why).await;
    }
    // It has been running: whatever it has to say, it says at once, or there are stale bytes in the way.
    driver.drive(client, commands, image_hash, Duration::from_millis(ECHO_MS_MAX)).await;
}

fn spawn(path: &Path, program: &Path, config: &KeeperConfig) -> io::Result<KeeperClient> {
    let run_dir = RunDir::create(path.to_owned())?;
    KeeperClient::spawn(program, &run_dir, config).inspect_err(|_| {
        // Nothing was started; what cannot be removed now is removed at the server's next start.
        let _ = RunDir::remove(path);
    })
}

impl Driver {
    fn new(machines: Machines, slot: Slot, began: Instant) -> (Self, mpsc::Receiver<DriverCommand>, String) {
        let Slot { id, image_hash, state, commands, process_info } = slot;
        let deadline = ActiveTimeDeadline::new(Duration::from_millis(machines.inner.settings.ready_ms_max));
        let (was_ready, keeper, ended) = (false, None, None);
        (Self { machines, id, state, began, deadline, process_info, was_ready, keeper, ended }, commands, image_hash)
    }

    async fn drive(
        mut self,
        mut client: KeeperClient,
        mut commands: mpsc::Receiver<DriverCommand>,
        image_hash: String,
        first_wait: Duration,
    ) {
        let (events, mut connection_events) = mpsc::channel(EVENTS_MAX);
        let stop = self.machines.inner.stop.clone();
        // Ends with this function, whatever way: the connection must not outlive its driver.
        let over = stop.child_token();
        let _guard = over.clone().drop_guard();
        let (began, process_info, was_ready) = (self.began, self.process_info.clone(), self.was_ready);
        let params = connection::ConnectParams { image_hash, began, process_info, first_wait, was_ready };
        connection::spawn(&self.machines, &self.id, params, events, &over);
        loop {
            tokio::select! {
                biased;
                report = client.next() => match report {
                    Some(report) => self.handle_report(&mut client, report).await,
                    None => break,
                },
                Some(commands) = commands.recv() => match commands {
                    DriverCommand::Stop(why) => self.stop(&mut client, why).await,
                    DriverCommand::Save(state) => {
                        over.cancel();
                        self.save(&mut client, state).await;
                    }
                },
                Some(event) = connection_events.recv() => self.handle_connection_event(&mut client, event).await,
                () = tokio::time::sleep_until(self.deadline.next_check()), if !self.is_ready() => {
                    if self.deadline.is_expired() {
                        self.give_up(&mut client).await;
                    }
                }
                // A machine that ends is seen to its end; the others live on for the next server.
                () = stop.cancelled(), if !self.is_ending() => return,
            }
        }
        client.wait_for_exit(self.keeper).await;
        self.keeper_exited().await;
    }

    /// Whether nothing is waited for.
    fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready { .. })
    }

    fn is_ending(&self) -> bool {
        matches!(*self.state.borrow(), State::Stopping { .. } | State::Exited { .. })
    }

    fn apply(&self, event: Event) -> bool {
        let next = self.state.borrow().on(event);
        match next {
            Ok(next) => {
                tracing::debug!(machine = %self.id, state = next.name(), "machine");
                self.state.send_replace(next);
                true
            }
            Err(refused) => {
                tracing::trace!(machine = %self.id, %refused, "no effect");
                false
            }
        }
    }

    async fn handle_report(&mut self, client: &mut KeeperClient, report: Report) {
        let phase = match report {
            Report::Greeting { protocol: CONTROL_PROTOCOL, phase, keeper, .. } => {
                self.keeper = Some(keeper);
                phase
            }
            Report::Phase { phase } => phase,
            Report::Greeting { protocol, .. } => {
                let (expected, found) = (format!("keeper protocol {CONTROL_PROTOCOL}"), format!("protocol {protocol}"));
                return self.stop(client, StopReason::Mismatch { expected, found }).await;
            }
        };
        match phase {
            KeeperPhase::Starting => {}
            KeeperPhase::Running { process } => {
                // Set once; a greeting repeats what is known.
                let after_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let _ = self.process_info.set(ProcessInfo { process, after_ms });
                self.apply(Event::ProcessStarted);
            }
            KeeperPhase::CleaningUp { cause, stop_detail } => self.process_exited(cause, stop_detail),
            KeeperPhase::Ended { cause, stop_detail, receipt_error } => {
                if let Some(error) = receipt_error {
                    tracing::warn!(machine = %self.id, error, "the keeper could not write the machine's receipt");
                }
                self.ended = Some((cause, stop_detail));
            }
        }
    }

    /// The process has ended. The keeper has as long to clear away as it would have to end it.
    fn process_exited(&mut self, cause: ExitCause, stop_detail: Option<StopDetail>) {
        if self.apply(Event::ProcessExited { reason: cause.exit_reason(stop_detail.as_ref()) }) {
            self.deadline =
                ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
            if let State::Exited { why } = &*self.state.borrow() {
                tracing::info!(machine = %self.id, outcome = "dead", cause = %why, "a machine's process has ended");
            }
        }
        self.ended = Some((cause, stop_detail));
    }

    async fn handle_connection_event(&mut self, client: &mut KeeperClient, event: connection::ConnectionEvent) {
        match event {
            connection::ConnectionEvent::Event(event) => {
                let lost = matches!(event, Event::ChannelLost { .. });
                if self.apply(event) && lost {
                    self.deadline = self.liveness_deadline();
                }
                let ready_ms = self.state.borrow().channels().map(|channels| channels.timings.ready_ms);
                if let Some(ready_ms) = ready_ms {
                    tracing::info!(machine = %self.id, outcome = "ready", waited_ms = ready_ms, "a machine is ready");
                    self.record_ready().await;
                }
            }
            connection::ConnectionEvent::Mismatch { expected, found } => {
                self.stop(client, StopReason::Mismatch { expected, found }).await;
            }
            connection::ConnectionEvent::Hung { unanswered_ms } => {
                tracing::warn!(machine = %self.id, outcome = "hung", waited_ms = unanswered_ms, "a machine gives no sign of life");
                self.stop(client, StopReason::Hung { unanswered_ms }).await;
            }
        }
    }

    /// A machine that stays silent has hung; one that is connection_events again has as long as a new one.
    fn liveness_deadline(&self) -> ActiveTimeDeadline {
        let settings = &self.machines.inner.settings;
        ActiveTimeDeadline::new(Duration::from_millis(
            settings.liveness_timeout_ms.saturating_add(settings.ready_ms_max),
        ))
    }

    /// For the server that may take the machine over: its silence is another thing than that of one that was never ready.
    async fn record_ready(&mut self) {
        if self.was_ready {
            return;
        }
        self.was_ready = true;
        let path = self.machines.run_dir_of(&self.id);
        let noted = tokio::task::spawn_blocking(move || RunDir::record_ready(&path)).await;
        if let Err(error) = noted.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(machine = %self.id, %error, "that a machine was ready could not be written down");
        }
    }

    async fn stop(&mut self, client: &mut KeeperClient, why: StopReason) {
        let command = KeeperCommand::Stop { why: why.name().to_owned(), stop_detail: StopDetail::of(&why) };
        if !self.apply(Event::StopRequested(why)) {
            return;
        }
        self.deadline =
            ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
        if client.send(&command).await.is_err() {
            tracing::debug!(machine = %self.id, "the keeper is removed already");
        }
    }

    async fn save(&mut self, client: &mut KeeperClient, state: PathBuf) {
        if !self.apply(Event::StopRequested(StopReason::Completed)) {
            return;
        }
        self.deadline = ActiveTimeDeadline::new(Duration::from_millis(SAVE_MS_MAX));
        tokio::time::sleep(Duration::from_millis(DISCONNECT_MS)).await;
        if client.send(&KeeperCommand::Save { state }).await.is_err() {
            tracing::debug!(machine = %self.id, "the keeper is removed already");
        }
    }

    /// What was waited for did not come in time.
    async fn give_up(&mut self, client: &mut KeeperClient) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let why = match &*self.state.borrow() {
            State::Waiting { stage, last_error, attempts } => {
                StopReason::NotReady { stage: *stage, last_error: last_error.clone(), attempts: *attempts, elapsed_ms }
            }
            State::Requested | State::Cloning => {
                let stage = anteroom_wire::agent::Stage::Process;
                StopReason::NotReady { stage, last_error: None, attempts: 1, elapsed_ms }
            }
            // Its keeper was told to end it, or to clear away after it, and does not: it hangs itself. Its process dies with it.
            State::Stopping { .. } | State::Exited { .. } => {
                // One that has hung since before this server began has not said what it keeps, nor who it is.
                self.keeper = self.keeper.or_else(|| client.keeper());
                if let (None, Some(keeper)) = (self.process_info.get(), self.keeper)
                    && let Some(&process) = process::descendants(keeper.pid).first()
                {
                    let after_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let _ = self.process_info.set(ProcessInfo { process, after_ms });
                }
                let pid = self.keeper.map(|keeper| keeper.pid);
                tracing::warn!(machine = %self.id, outcome = "keeper_hung", pid, "a keeper does not end and is killed");
                client.kill(self.keeper);
                self.deadline =
                    ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
                return;
            }
            State::Ready { .. } | State::Removed { .. } => return,
        };
        self.stop(client, why).await;
    }

    /// The keeper's socket has closed: reads its last words, or finds out that there are none.
    async fn keeper_exited(mut self) {
        let receipts_dir = self.machines.inner.settings.receipts_dir.clone();
        let receipt = match Receipt::read(&receipts_dir, &self.id) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(machine = %self.id, %error, "the machine's receipt cannot be read");
                None
            }
        };
        let receipt = match receipt {
            Some(receipt) => receipt,
            None => {
                // A keeper that process_exited while it cleared away has said before cause its machine ended.
                let (cause, stop_detail) = self.ended.take().unwrap_or((ExitCause::KeeperLost, None));
                let receipt = self.clean_up_after_lost_keeper(cause, stop_detail).await;
                if let Err(error) = receipt.write(&receipts_dir) {
                    tracing::warn!(machine = %self.id, %error, "the machine's receipt cannot be written");
                }
                receipt
            }
        };
        self.removed(receipt.reason(), Some(Box::new(receipt)));
    }

    /// Does what the keeper no longer could, and looks whether the process process_exited with it.
    async fn clean_up_after_lost_keeper(&self, cause: ExitCause, stop_detail: Option<StopDetail>) -> Receipt {
        let mut checks = CleanupChecks::default();
        if let Some(ProcessInfo { process, .. }) = self.process_info.get() {
            let until = Instant::now() + Duration::from_millis(PROCESS_EXIT_MS_MAX);
            while process.is_alive() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
            }
            process.kill();
            checks.pids.push(process.pid);
            if process.is_alive() {
                checks.leftovers.push(format!("pid {}", process.pid));
            }
        }
        let path = self.machines.run_dir_of(&self.id);
        let away = path.clone();
        let removed = tokio::task::spawn_blocking(move || RunDir::remove(&away)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            checks.leftovers.push(format!("{}: {error}", path.display()));
        }
        checks.paths.push(path);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ended_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let lived_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Receipt {
            machine: self.id.clone(),
            began_unix_ms: ended_unix_ms.saturating_sub(lived_ms),
            ended_unix_ms,
            cause,
            stop_detail,
            console_tail: String::new(),
            output_tail: String::new(),
            checks,
        }
    }

    /// The last state. Room is made first, so that whoever sees the end can start another.
    fn removed(self, reason: ExitReason, receipt: Option<Box<Receipt>>) {
        self.machines.leave(&self.id);
        self.apply(Event::Removed { reason, receipt });
        if let State::Removed { why, .. } = &*self.state.borrow() {
            tracing::info!(machine = %self.id, outcome = "removed", cause = %why, "a machine is removed");
        }
    }
}
