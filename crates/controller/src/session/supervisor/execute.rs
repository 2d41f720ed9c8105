//! Executes the lifecycle's commands: at once, or as a job.

use super::{
    Supervisor,
    exit_record::CLEANUP_TIMEOUT_S,
    jobs,
    machine_slot::{MachineOrigin, MachineSlot, RequestedMachine, SlotError, StartedMachine},
};
use crate::{
    api_error::chain,
    random,
    session::{
        active_session::{CurrentMachine, MachineHost},
        change_method,
        lifecycle::{Command, Entry, Event, RestartRejection},
        status::Progress,
        timeline::new_entry,
    },
    unix_time,
};
use anteroom_machine::{MachineStartError, State, StopReason};
use anteroom_store::{NewTimelineEntry, Sha256Hex};
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, MachineId, TimelineKind, agent::Stage};
use futures_util::FutureExt;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// If the channel to a machine's agent is broken for this long, it is recorded, milliseconds. Shorter, and the end of each machine would
/// be recorded as a lost channel first.
const CHANNEL_LOST_AFTER_MS: u64 = 1_000;

impl Supervisor {
    /// Executes a command, or starts a job for it. Returns an event if the result is known at once.
    pub(super) async fn execute(&mut self, command: Command) -> Option<Event> {
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        match command {
            Command::Enqueue => return self.wait_in_queue().await,
            Command::RequestMachine => return self.request_machine().await,
            Command::StartMachine => return Some(self.start().await),
            Command::ClaimMachine => self.claim().await,
            Command::RecordReplacement { reason, detail } => {
                self.cancel_job().await;
                self.job = Some(jobs::record_replacement(
                    server_context,
                    session,
                    self.lifecycle.generation(),
                    reason,
                    detail,
                ));
            }
            Command::BackOff { ms } => {
                self.cancel_job().await;
                self.job = Some(jobs::back_off(ms));
            }
            Command::EndSession { reason, detail } => {
                self.cancel_job().await;
                self.job = Some(jobs::end_session(server_context, session, reason, detail));
            }
            Command::StopAwaitingDeliveries => {
                return Some(Event::DeliveryChanged(self.session.stop_awaiting_deliveries()));
            }
            Command::StopMachine(why) => self.stop(why).await,
            Command::AwaitCleanup => self.await_cleanup().await,
            Command::PublishProgress => self.publish_progress(),
            Command::PublishMachineLost => session.lose_machine(),
            // Other callers see the end once it is written; broken sockets need not wait for that.
            Command::CloseSockets(reason) => {
                let cause = CloseCause::SessionEnded(reason);
                session.update_state(|state| _ = state.machine_close_signal.close(cause));
            }
            Command::Record(entry) => self.record(entry).await,
        }
        None
    }

    /// Cancels the job in progress; nothing of it happens afterwards.
    async fn cancel_job(&mut self) {
        if let Some(job) = self.job.take() {
            job.cancel().await;
        }
    }

    async fn wait_in_queue(&mut self) -> Option<Event> {
        let ticket = match self.slot.take_ticket() {
            Some(ticket) => ticket,
            None => self.server_context.queue.enqueue_again(&self.owner),
        };
        self.cancel_job().await;
        let turn = self.next_turn_ticket();
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        self.job = Some(jobs::wait_in_queue(server_context, session, self.owner.clone(), turn, ticket));
        None
    }

    async fn request_machine(&mut self) -> Option<Event> {
        self.cancel_job().await;
        let warm = self.server_context.warm_machines.take(&self.server_context.machines);
        let is_warm = warm.is_some();
        let machine = warm.as_ref().map_or_else(|| random::random_id(MachineId::from_parts), |warm| warm.id.clone());
        let token = random::random_token("agt_");
        let (generation, token_hash) = (self.lifecycle.generation(), Sha256Hex::of_secret(&token));
        if let Err(error) = self.slot.request(machine.clone(), token, warm) {
            return Some(out_of_order(&error));
        }
        let current = CurrentMachine::new(MachineHost::ThisServer(machine.clone()), generation, token_hash.clone());
        let progress = Progress::Preparing { stage: Stage::Process };
        self.session.update_state(|state| (state.machine, state.progress) = (Some(current), progress));
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        self.job = Some(jobs::request_machine(server_context, session, generation, (machine, is_warm), token_hash));
        None
    }

    async fn start(&mut self) -> Event {
        // Unless the machine starts, the permit is freed when this returns.
        let RequestedMachine { id: machine, token, permit, warm } = match self.slot.take_requested() {
            Ok(requested) => requested,
            Err(error) => return out_of_order(&error),
        };
        // A restart that was requested before this machine started does not apply to it.
        let _ = self.session.restart_requested.notified().now_or_never();
        let started = match &warm {
            Some(warm) => Ok(warm.state.clone()),
            None => self.server_context.machines.start(machine.clone()),
        };
        let error = match started {
            Ok(state) => {
                let started = StartedMachine::new(machine, MachineOrigin::Requested(token), state, permit);
                self.slot = MachineSlot::Started(started);
                return Event::MachineStarted;
            }
            Err(error) => error,
        };
        let reason = match &error {
            MachineStartError::NoCapacity { .. } => EndReason::NoCapacity,
            MachineStartError::Spec(_) => EndReason::NoImage,
            MachineStartError::Stopping => return Event::ServerStopping,
            MachineStartError::AlreadyExists => EndReason::Internal,
        };
        let detail = chain(&error);
        let sentence = format!("No machine could be started: {detail}.");
        self.append(new_entry(TimelineKind::MachineStartFailed, sentence).with_data(json!({}))).await;
        Event::StartFailed { reason, detail }
    }

    async fn claim(&mut self) {
        let Some(started) = self.slot.started() else { return };
        // If it is no longer ready, that event is pending.
        let State::Ready { channels } = started.state() else { return };
        let (machine, origin) = (started.id.clone(), started.origin.clone());
        let (server_context, session) = (self.server_context.clone(), Arc::clone(&self.session));
        self.cancel_job().await;
        self.job =
            Some(jobs::claim_machine(server_context, session, self.lifecycle.generation(), machine, channels, origin));
    }

    async fn stop(&mut self, why: StopReason) {
        let Some(started) = self.slot.started() else { return };
        self.server_context.machines.stop(&started.id, why);
        self.await_cleanup().await;
    }

    async fn await_cleanup(&mut self) {
        // A claim of a machine that ends is useless.
        self.cancel_job().await;
        let timeout = Duration::from_secs(CLEANUP_TIMEOUT_S);
        self.slot.set_cleanup_deadline(Some(Instant::now() + timeout));
    }

    /// Publishes the progress that follows from the phase and the machine's state.
    fn publish_progress(&self) {
        let state = self.slot.started().map(StartedMachine::state);
        if let Some(progress) = Progress::from_phase(self.lifecycle.phase(), state.as_ref()) {
            self.session.set_progress(progress);
        }
    }

    async fn record(&mut self, to_record: Entry) {
        let machine = self.slot.started().map(|started| started.id.clone());
        match to_record {
            Entry::MachineExited => self.record_machine_exit(false).await,
            Entry::MachineExitedAndRemoved => self.record_machine_exit(true).await,
            Entry::MachineRemoved => self.record_removal().await,
            Entry::CleanupTimedOut => self.record_cleanup_timeout().await,
            Entry::MachineLeftRunning => {
                tracing::info!(outcome = "machine_left", session = %self.session.id, ?machine, "server stopped before the machine was removed");
            }
            Entry::ChannelLost => self.record_channel_lost(),
            Entry::ChannelReopened => {
                let sentence = "The channel to the machine's agent was opened again.";
                self.append(new_entry(TimelineKind::ChannelReopened, sentence).with_data(json!({}))).await;
                if let Some(State::Ready { channels }) = self.slot.started().map(StartedMachine::state) {
                    change_method::resend_method_in_background(&self.server_context, &self.session, channels);
                }
            }
            Entry::ClaimFailed { why } => {
                let sentence = format!("The machine could not be claimed: {why}.");
                self.append(new_entry(TimelineKind::ClaimFailed, sentence).with_data(json!({ "machine": machine })))
                    .await;
            }
            Entry::RestartRequested => {
                let sentence = "Another machine was requested.";
                self.append(new_entry(TimelineKind::RestartRequested, sentence).with_data(json!({}))).await;
            }
            Entry::RestartRejected(why) => {
                let (reason, sentence) = match why {
                    RestartRejection::DeliveryPending => {
                        ("delivery_in_progress", "a credential of this machine is being delivered")
                    }
                    RestartRejection::NoMachineLeft => ("none_left", "the session has used all its machines"),
                };
                let sentence = format!("The request for another machine was rejected: {sentence}.");
                self.append(new_entry(TimelineKind::RestartRejected, sentence).with_data(json!({ "reason": reason })))
                    .await;
            }
            Entry::EgressTotals => {
                self.record_egress_totals().await;
                self.record_dropped_reports().await;
            }
        }
    }

    /// Records a lost channel once it stayed lost for a while: when a machine ends, its channel breaks a moment before the exit is
    /// known, and then only the exit is recorded.
    fn record_channel_lost(&mut self) {
        let Some(started) = self.slot.started() else { return };
        let State::Waiting { last_error, .. } = started.state() else { return };
        let (server_context, session, machine) =
            (self.server_context.clone(), Arc::clone(&self.session), started.id.clone());
        let at = unix_time::format_rfc3339(unix_time::now_unix_ms());
        let lost_after = Duration::from_millis(CHANNEL_LOST_AFTER_MS);
        server_context.clone().tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(lost_after) => {}
                _ = session.close_signal.wait_closed() => return,
            }
            let state = session.state();
            let is_still_lost =
                matches!(state.progress, Progress::Preparing { .. }) && state.machine_id() == Some(&machine);
            if is_still_lost {
                let why = last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                let sentence = format!("The channel to the machine's agent broke{why}.");
                let data = json!({ "at": at, "error": last_error });
                server_context
                    .timeline
                    .append(&session.id, new_entry(TimelineKind::ChannelLost, sentence).with_data(data))
                    .await;
            }
        });
    }

    async fn record_egress_totals(&mut self) {
        let totals = self.session.egress_summary().totals();
        if totals.is_empty() {
            return;
        }
        let (names, warning_mib) = (totals.len(), self.server_context.config().egress.upload_warning_mib);
        let bytes_up: u64 = totals.iter().map(|host| host.bytes_up).sum();
        let bytes_down: u64 = totals.iter().map(|host| host.bytes_down).sum();
        let is_large = bytes_up >= warning_mib << 20;
        let mut sentence = format!(
            "The machine requested {names} host name(s), sent {} KiB and received {} KiB.",
            bytes_up.div_ceil(1024),
            bytes_down.div_ceil(1024)
        );
        if is_large {
            sentence.push_str(&format!(" Warning: it sent more than {warning_mib} MiB."));
            tracing::warn!(outcome = "large_upload", session = %self.session.id, bytes_up, warning_mib, "session sent much data");
        }
        let data =
            json!({ "names": totals, "bytes_up": bytes_up, "bytes_down": bytes_down, "upload_warning": is_large });
        self.append(new_entry(TimelineKind::EgressTotals, sentence).with_data(data)).await;
    }

    async fn record_dropped_reports(&mut self) {
        let dropped = self.session.timeline_budget.lock().take_dropped();
        if !dropped.is_empty() {
            let sentence = format!("{} report(s) were counted and not recorded.", dropped.values().sum::<u64>());
            self.append(new_entry(TimelineKind::ReportsDropped, sentence).with_data(json!({ "reports": dropped })))
                .await;
        }
    }

    pub(super) async fn append(&mut self, entry: NewTimelineEntry) {
        self.server_context.timeline.append(&self.session.id, entry).await;
    }
}

/// The event for a command that does not match the slot: the lifecycle and the supervisor disagree about the machine.
fn out_of_order(error: &SlotError) -> Event {
    Event::StartFailed { reason: EndReason::Internal, detail: error.to_string() }
}
