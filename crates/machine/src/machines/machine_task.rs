//! The one writer of a machine's state.
//!
//! It receives reports of the keeper, events of the connection task and commands of callers, turns them into events, and sends
//! commands to the keeper. The keeper reports that the process has exited. A machine is removed when the keeper's socket
//! closes, and at no other moment.

use super::{AgentTarget, DriverCommand, Machines, ProcessInfo, Slot, connection, liveness::ActiveTimeDeadline};
use crate::{
    exit_reason::{ExitReason, StopReason},
    keeper::{
        client::KeeperClient,
        control::{CONTROL_PROTOCOL, KeeperCommand, KeeperPhase, Report},
    },
    procfs::{self, ProcessId},
    receipt::{CleanupChecks, ExitCause, Receipt, StopDetail},
    run_dir::RunDir,
    spec::KeeperConfig,
    state::{Event, State},
};
use anteroom_wire::{
    MachineId,
    channel::ECHO_WAIT_MS_MAX,
    time::{to_millis, to_unix_ms},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Queued events of the connection task.
const EVENTS_MAX: usize = 64;
/// How long the process of a killed keeper may take to exit, milliseconds.
const PROCESS_EXIT_MS_MAX: u64 = 2_000;
/// Time between disconnecting and saving, milliseconds: the guest must have noticed, so that clones start without a connection.
const DISCONNECT_MS: u64 = 100;
/// How long saving a state may take, milliseconds: it is a few hundred kB.
const SAVE_MS_MAX: u64 = 120_000;
/// Interval between two checks of an exiting process, milliseconds.
const POLL_INTERVAL_MS: u64 = 5;

/// The state of one machine and everything needed to change it.
struct Driver {
    machines: Machines,
    id: MachineId,
    state: watch::Sender<State>,
    began: Instant,
    /// The deadline for becoming ready (restarted when the channel is lost), or for the keeper to stop the machine and clean up.
    deadline: ActiveTimeDeadline,
    process_info: Arc<OnceLock<ProcessInfo>>,
    /// Whether it was ready once, under this server or an earlier one.
    was_ready: bool,
    keeper: Arc<OnceLock<ProcessId>>,
    /// The last cause that the keeper reported.
    reported_cause: Option<(ExitCause, Option<StopDetail>)>,
}

/// Drives a machine from its request to its end.
pub(super) async fn run_new(machines: Machines, slot: Slot, config: KeeperConfig) {
    let began = Instant::now();
    let path = machines.run_dir_of(&slot.id);
    let program = machines.inner.settings.keeper_program.clone();
    let spawned = tokio::task::spawn_blocking(move || spawn(&path, &program, &config)).await;
    let client = spawned.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (driver, commands, target) = Driver::new(machines, slot, began);
    match client {
        Ok(client) => {
            driver.apply(Event::KeeperFound);
            let first_wait = Duration::from_millis(driver.machines.inner.settings.first_echo_wait_ms);
            driver.drive(client, commands, target, first_wait).await;
        }
        Err(error) => driver.removed(ExitReason::NeverStarted { error: error.to_string() }, None),
    }
}

/// Drives a machine that outlived its server; `incompatible`: why this server cannot use it and stops it.
pub(super) async fn run_adopted(
    machines: Machines,
    slot: Slot,
    mut client: KeeperClient,
    incompatible: Option<StopReason>,
) {
    let (mut driver, commands, target) = Driver::new(machines, slot, Instant::now());
    let path = driver.machines.run_dir_of(&driver.id);
    driver.was_ready = tokio::task::spawn_blocking(move || RunDir::was_ready(&path)).await.unwrap_or_default();
    if driver.was_ready {
        driver.deadline = driver.liveness_deadline();
    }
    if let Some(reason) = incompatible {
        driver.stop(&mut client, reason).await;
    }
    // It has been running: it answers at once, unless stale bytes are in the pipe.
    driver.drive(client, commands, target, Duration::from_millis(ECHO_WAIT_MS_MAX)).await;
}

fn spawn(path: &Path, program: &Path, config: &KeeperConfig) -> io::Result<KeeperClient> {
    let run_dir = RunDir::create(path.to_owned())?;
    KeeperClient::spawn(program, &run_dir, config).inspect_err(|_| {
        // Nothing was started. If the removal fails, the server's next start removes the directory.
        let _ = RunDir::remove(path);
    })
}

/// Waits until the process has exited, at most [`PROCESS_EXIT_MS_MAX`]. Returns whether it has.
async fn wait_exited(process: ProcessId) -> bool {
    let until = Instant::now() + Duration::from_millis(PROCESS_EXIT_MS_MAX);
    while process.is_alive() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
    }
    !process.is_alive()
}

impl Driver {
    fn new(machines: Machines, slot: Slot, began: Instant) -> (Self, mpsc::Receiver<DriverCommand>, AgentTarget) {
        let Slot { id, target, state, commands, process_info, keeper } = slot;
        let deadline = ActiveTimeDeadline::new(Duration::from_millis(machines.inner.settings.ready_ms_max));
        let (was_ready, reported_cause) = (false, None);
        let driver = Self { machines, id, state, began, deadline, process_info, was_ready, keeper, reported_cause };
        (driver, commands, target)
    }

    async fn drive(
        mut self,
        mut client: KeeperClient,
        mut commands: mpsc::Receiver<DriverCommand>,
        target: AgentTarget,
        first_wait: Duration,
    ) {
        let (events, mut connection_events) = mpsc::channel(EVENTS_MAX);
        let stop = self.machines.inner.stop.clone();
        // Cancelled when this function returns: the connection must not outlive its machine task.
        let disconnect = stop.child_token();
        let _guard = disconnect.clone().drop_guard();
        let (began, process_info, was_ready) = (self.began, self.process_info.clone(), self.was_ready);
        let params = connection::ConnectParams {
            target,
            requested_at: began,
            process_info,
            first_echo_wait: first_wait,
            was_ready,
        };
        connection::spawn_connections(&self.machines, &self.id, params, events, &disconnect);
        loop {
            tokio::select! {
                biased;
                report = client.next_report() => match report {
                    Some(report) => self.handle_report(&mut client, report).await,
                    None => break,
                },
                Some(command) = commands.recv() => match command {
                    DriverCommand::Stop(reason) => self.stop(&mut client, reason).await,
                    DriverCommand::Save(state) => {
                        disconnect.cancel();
                        self.save(&mut client, state).await;
                    }
                },
                Some(event) = connection_events.recv() => self.handle_connection_event(&mut client, event).await,
                () = tokio::time::sleep_until(self.deadline.next_check()), if !self.is_ready() => {
                    if self.deadline.is_expired() {
                        self.deadline_expired(&mut client).await;
                    }
                }
                // The machine task of an ending machine stays until it is removed; the other machines continue for the next server.
                () = stop.cancelled(), if !self.is_ending() => return,
            }
        }
        client.wait_exited(self.keeper.get().copied()).await;
        self.keeper_exited().await;
    }

    /// Whether no deadline applies.
    fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready { .. })
    }

    /// Milliseconds since the machine was requested or adopted.
    fn elapsed_ms(&self) -> u64 {
        to_millis(self.began.elapsed())
    }

    fn is_ending(&self) -> bool {
        matches!(*self.state.borrow(), State::Stopping { .. } | State::Exited { .. })
    }

    fn apply(&self, event: Event) -> bool {
        let next = self.state.borrow().handle_event(event);
        match next {
            Ok(next) => {
                tracing::debug!(machine = %self.id, state = next.name(), "machine state changed");
                self.state.send_replace(next);
                true
            }
            Err(rejected) => {
                tracing::trace!(machine = %self.id, error = %rejected, "machine event rejected");
                false
            }
        }
    }

    async fn handle_report(&mut self, client: &mut KeeperClient, report: Report) {
        let phase = match report {
            Report::Greeting { protocol: CONTROL_PROTOCOL, phase, keeper, .. } => {
                let _ = self.keeper.set(keeper);
                phase
            }
            Report::Phase { phase } => phase,
            Report::Greeting { protocol, keeper, .. } => {
                let (expected, found) = (format!("keeper protocol {CONTROL_PROTOCOL}"), format!("protocol {protocol}"));
                self.stop(client, StopReason::Mismatch { expected, found }).await;
                // A keeper of another protocol may not know the stop command.
                let _ = self.keeper.set(keeper);
                return self.kill_keeper(client);
            }
        };
        match phase {
            KeeperPhase::Starting => {}
            KeeperPhase::Running { process } => {
                // Set once; a greeting repeats the phase.
                let _ = self.process_info.set(ProcessInfo { process, reported_after_ms: self.elapsed_ms() });
                self.apply(Event::ProcessStarted);
            }
            KeeperPhase::CleaningUp { cause, stop_detail } => self.process_exited(cause, stop_detail),
            KeeperPhase::Ended { cause, stop_detail, receipt_error } => {
                if let Some(error) = receipt_error {
                    tracing::warn!(machine = %self.id, error, "keeper failed to write the receipt");
                }
                self.reported_cause = Some((cause, stop_detail));
            }
        }
    }

    /// Publishes `Exited` and starts the deadline for the keeper's cleanup.
    fn process_exited(&mut self, cause: ExitCause, stop_detail: Option<StopDetail>) {
        if self.apply(Event::ProcessExited { reason: cause.to_exit_reason(stop_detail.as_ref()) }) {
            self.deadline =
                ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
            if let State::Exited { reason } = &*self.state.borrow() {
                tracing::info!(machine = %self.id, outcome = "exited", cause = %reason, "machine process exited");
                if matches!(reason, ExitReason::Killed { signal: libc::SIGSYS }) {
                    tracing::error!(target: "security", machine = %self.id, outcome = "confinement_violated", cause = %reason, "VMM killed for a system call that its confinement does not allow");
                }
            }
        }
        self.reported_cause = Some((cause, stop_detail));
    }

    async fn handle_connection_event(&mut self, client: &mut KeeperClient, event: connection::ConnectionEvent) {
        match event {
            connection::ConnectionEvent::Lifecycle(event) => {
                let lost = matches!(event, Event::ChannelLost { .. });
                if self.apply(event) && lost {
                    self.deadline = self.liveness_deadline();
                }
                let ready_ms = self.state.borrow().channels().map(|channels| channels.timings.ready_ms);
                if let Some(ready_ms) = ready_ms {
                    tracing::info!(machine = %self.id, outcome = "ready", waited_ms = ready_ms, "machine became ready");
                    self.record_ready().await;
                }
            }
            connection::ConnectionEvent::Mismatch { expected, found } => {
                self.stop(client, StopReason::Mismatch { expected, found }).await;
            }
            connection::ConnectionEvent::Hung { unanswered_ms } => {
                tracing::warn!(machine = %self.id, outcome = "hung", waited_ms = unanswered_ms, "machine liveness timeout expired");
                self.stop(client, StopReason::Hung { unanswered_ms }).await;
            }
            connection::ConnectionEvent::Violation { channel, violation } => {
                self.stop(client, StopReason::ChannelViolation { channel: channel.to_owned(), violation }).await;
            }
        }
    }

    /// The deadline of a machine that was ready and lost its channel: the liveness timeout plus the time of a new start.
    fn liveness_deadline(&self) -> ActiveTimeDeadline {
        let settings = &self.machines.inner.settings;
        ActiveTimeDeadline::new(Duration::from_millis(
            settings.liveness_timeout_ms.saturating_add(settings.ready_ms_max),
        ))
    }

    /// Records in the run directory that the machine was ready, for a server that adopts it later.
    async fn record_ready(&mut self) {
        if self.was_ready {
            return;
        }
        self.was_ready = true;
        let path = self.machines.run_dir_of(&self.id);
        let recorded = tokio::task::spawn_blocking(move || RunDir::record_ready(&path)).await;
        if let Err(error) = recorded.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(machine = %self.id, %error, "recording the ready state failed");
        }
    }

    async fn stop(&mut self, client: &mut KeeperClient, reason: StopReason) {
        let command =
            KeeperCommand::Stop { reason: reason.name().to_owned(), stop_detail: StopDetail::from_reason(&reason) };
        if !self.apply(Event::StopRequested(reason)) {
            return;
        }
        self.deadline =
            ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
        if client.send(&command).await.is_err() {
            tracing::debug!(machine = %self.id, "keeper already exited");
        }
    }

    async fn save(&mut self, client: &mut KeeperClient, state: PathBuf) {
        if !self.apply(Event::StopRequested(StopReason::Completed)) {
            return;
        }
        self.deadline = ActiveTimeDeadline::new(Duration::from_millis(SAVE_MS_MAX));
        tokio::time::sleep(Duration::from_millis(DISCONNECT_MS)).await;
        if client.send(&KeeperCommand::Save { state }).await.is_err() {
            tracing::debug!(machine = %self.id, "keeper already exited");
        }
    }

    /// Stops a machine that did not become ready in time, or kills a keeper that did not stop or clean up in time.
    async fn deadline_expired(&mut self, client: &mut KeeperClient) {
        let elapsed_ms = self.elapsed_ms();
        let not_ready = match &*self.state.borrow() {
            State::Waiting { stage, last_error, attempts } => Some(StopReason::NotReady {
                stage: *stage,
                last_error: last_error.clone(),
                attempts: *attempts,
                elapsed_ms,
            }),
            State::Requested | State::Cloning => {
                let stage = anteroom_wire::agent::Stage::Process;
                Some(StopReason::NotReady { stage, last_error: None, attempts: 1, elapsed_ms })
            }
            // The keeper itself hangs. The machine's process is killed with it.
            State::Stopping { .. } | State::Exited { .. } => None,
            State::Ready { .. } | State::Removed { .. } => return,
        };
        if let Some(reason) = not_ready {
            return self.stop(client, reason).await;
        }
        let pid = self.keeper.get().copied().or_else(|| client.keeper_process()).map(|keeper| keeper.pid);
        tracing::warn!(machine = %self.id, outcome = "keeper_hung", pid, "hung keeper killed");
        self.kill_keeper(client);
    }

    /// Kills the keeper; its machine's process is killed with it.
    fn kill_keeper(&mut self, client: &mut KeeperClient) {
        // A keeper that hung before this server started has sent neither its process id nor its machine's.
        if let Some(keeper) = client.keeper_process() {
            let _ = self.keeper.set(keeper);
        }
        if let (None, Some(keeper)) = (self.process_info.get(), self.keeper.get())
            && let Some(&process) = procfs::descendants(keeper.pid).first()
        {
            let _ = self.process_info.set(ProcessInfo { process, reported_after_ms: self.elapsed_ms() });
        }
        client.kill_keeper(self.keeper.get().copied());
        self.deadline =
            ActiveTimeDeadline::new(Duration::from_millis(self.machines.inner.settings.keeper_exit_timeout_ms));
    }

    /// The keeper's socket has closed: reads the receipt, or cleans up and writes one if the keeper left none.
    async fn keeper_exited(mut self) {
        let receipts_dir = self.machines.inner.settings.receipts_dir.clone();
        let receipt = match Receipt::read(&receipts_dir, &self.id) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(machine = %self.id, %error, "reading the receipt failed");
                None
            }
        };
        let receipt = match receipt {
            Some(receipt) => receipt,
            None => {
                // A keeper that was killed during cleanup had reported the cause before.
                let (cause, stop_detail) = self.reported_cause.take().unwrap_or((ExitCause::KeeperLost, None));
                let receipt = self.clean_up_after_lost_keeper(cause, stop_detail).await;
                if let Err(error) = receipt.write(&receipts_dir) {
                    tracing::warn!(machine = %self.id, %error, "writing the receipt failed");
                }
                receipt
            }
        };
        self.removed(receipt.exit_reason(), Some(Box::new(receipt)));
    }

    /// Cleans up in place of a killed keeper and checks that the machine's process exited with it.
    async fn clean_up_after_lost_keeper(&self, cause: ExitCause, stop_detail: Option<StopDetail>) -> Receipt {
        let mut checks = CleanupChecks::default();
        if let Some(&ProcessInfo { process, .. }) = self.process_info.get() {
            let mut has_exited = wait_exited(process).await;
            if !has_exited {
                process.kill();
                has_exited = wait_exited(process).await;
            }
            checks.pids.push(process.pid);
            if !has_exited {
                checks.leftovers.push(format!("pid {}", process.pid));
            }
        }
        let path = self.machines.run_dir_of(&self.id);
        let removed_path = path.clone();
        let removed = tokio::task::spawn_blocking(move || RunDir::remove(&removed_path)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            checks.leftovers.push(format!("{}: {error}", path.display()));
        }
        checks.paths.push(path);
        let ended_unix_ms = to_unix_ms(SystemTime::now());
        Receipt {
            machine: self.id.clone(),
            began_unix_ms: ended_unix_ms.saturating_sub(self.elapsed_ms()),
            ended_unix_ms,
            cause,
            stop_detail,
            console_tail: String::new(),
            output_tail: String::new(),
            checks,
            confinement: BTreeMap::new(),
            denied_system_calls: BTreeMap::new(),
            denied_paths: BTreeSet::new(),
        }
    }

    /// Publishes the last state. The slot is freed first, so that a subscriber can start another machine at once.
    fn removed(self, reason: ExitReason, receipt: Option<Box<Receipt>>) {
        self.machines.free_slot(&self.id);
        self.apply(Event::Removed { reason, receipt });
        if let State::Removed { reason, .. } = &*self.state.borrow() {
            tracing::info!(machine = %self.id, outcome = "removed", cause = %reason, "machine removed");
        }
    }
}
