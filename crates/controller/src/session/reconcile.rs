//! Periodic reconciliation: compares rows, machines and files, and completes what an earlier server left unfinished. It has no
//! input and may run at any moment.
//!
//! ```text
//!  snapshot ──plan (pure)──▶ actions with reasons ──▶ executed ─▶ log, history
//!                                   └──▶ or only reported (`anteroom reconcile --dry-run`)
//! ```
//!
//! The actions are a closed list ([`ReconcileActionKind`](anteroom_wire::operator_reports::ReconcileActionKind)): active sessions without
//! a supervisor are resumed, or ended when they are overdue; orphaned machines are stopped; old or unfinished evidence is removed;
//! the ends of machines that outlived both their session and its server are recorded. Destructive actions are limited to
//! [`reconcile_stops_max`](crate::limits::SessionLimits::reconcile_stops_max) a run, so that a bug or a clock that jumps cannot end
//! everything at once.
//!
//! A session that has a supervisor is never touched here: its supervisor enforces its deadlines.

pub mod history;
mod plan;
mod snapshot;

pub use history::{LastRun, ReconcileHistory};

use super::{
    active_session::ActiveSession,
    end, grant_host,
    lifecycle::{self, InitialState},
    queue::SessionOwner,
    supervisor::{
        self, SupervisorStart,
        exit_record::{self, ExitRecord},
        use_turn::turn_credential,
    },
    use_credential,
};
use crate::{
    api_error::chain,
    cluster::clock::compare_clock,
    credentials::{self, turns::CredentialTurn},
    retention,
    session::server_context::ServerContext,
    unix_time,
};
use anteroom_machine::{Receipt, StopReason};
use anteroom_store::{RestoredFrom, SessionRow, Sha256Hex, StoreError, UnreportedMachineEnd};
use anteroom_wire::{
    EndReason, MachineId, SessionId,
    operator_reports::{ReconcileAction, ReconcileOutcome, ReconcileReport},
};
use plan::{PlannedAction, PlannedActionKind};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The turns of sessions whose machines are about to be adopted.
type Turns = HashMap<SessionId, CredentialTurn>;

/// Runs until the server stops. The first run, before this, is [`run_once`] at the start.
pub async fn run_periodically(server_context: ServerContext) {
    let period = Duration::from_millis(server_context.limits.sessions.reconcile_every_ms);
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = server_context.stop.cancelled() => return,
        }
        if let Err(error) = run_once(&server_context).await {
            tracing::error!(outcome = "reconciliation_failed", error = %chain(&error), "reconciliation failed");
        }
    }
}

/// The actions that a reconciliation would execute now; executes none.
///
/// # Errors
/// The database cannot be read.
pub async fn dry_run(server_context: &ServerContext) -> Result<ReconcileReport, StoreError> {
    let planned = plan::plan_actions(
        snapshot::collect_snapshot(server_context).await?,
        server_context.limits.sessions.reconcile_stops_max,
    );
    let deferred = count(&planned, |planned| planned.is_deferred);
    let actions = planned.into_iter().map(|planned| {
        let outcome = if planned.is_deferred { ReconcileOutcome::Deferred } else { ReconcileOutcome::Planned };
        planned.with_outcome(outcome)
    });
    Ok(ReconcileReport {
        dry_run: true,
        at: unix_time::format_rfc3339(unix_time::now_unix_ms()),
        actions: actions.collect(),
        deferred,
        failed: 0,
    })
}

/// Runs one reconciliation.
///
/// # Errors
/// The database cannot be used; actions executed before that stay executed.
pub async fn run_once(server_context: &ServerContext) -> Result<ReconcileReport, StoreError> {
    let _exclusive = server_context.reconcile_history.lock_run().await;
    let result = reconcile(server_context).await;
    match &result {
        Ok(report) => server_context.reconcile_history.record_finished(report, unix_time::now_unix_ms()),
        Err(_) => server_context.reconcile_history.record_failed(),
    }
    result
}

async fn reconcile(server_context: &ServerContext) -> Result<ReconcileReport, StoreError> {
    let at = unix_time::format_rfc3339(unix_time::now_unix_ms());
    let planned = plan::plan_actions(
        snapshot::collect_snapshot(server_context).await?,
        server_context.limits.sessions.reconcile_stops_max,
    );
    let deferred = count(&planned, |planned| planned.is_deferred);
    let mut actions = Vec::with_capacity(planned.len());
    let mut turns = hold_turns(server_context, &planned).await?;
    for planned in planned {
        let outcome = if planned.is_deferred {
            ReconcileOutcome::Deferred
        } else {
            execute(server_context, &planned, &mut turns).await?
        };
        let action = planned.with_outcome(outcome);
        log(&action);
        actions.push(action);
    }
    // Hosts of a cluster end what others have stored: not by a clock that has jumped.
    compare_clock(&server_context.store).await?;
    credentials::delete_expired_credentials(server_context).await?;
    server_context.store.purge_expired(unix_time::now_unix_ms()).await?;
    let failed = actions.iter().filter(|action| action.outcome == ReconcileOutcome::Failed).count();
    let report =
        ReconcileReport { dry_run: false, at, deferred, failed: u32::try_from(failed).unwrap_or(u32::MAX), actions };
    if !report.actions.is_empty() {
        let count = report.actions.len();
        tracing::info!(outcome = "reconciled", count, deferred, failed, "reconciliation finished");
    }
    Ok(report)
}

/// Holds the turns of the machines that are about to be adopted, so that no session gets one that is resumed before them.
async fn hold_turns(server_context: &ServerContext, planned: &[PlannedAction]) -> Result<Turns, StoreError> {
    let mut turns = Turns::new();
    for planned in planned {
        let PlannedActionKind::ResumeSession(row) = &planned.action else { continue };
        let is_adopted = row.machine.as_ref().is_some_and(|machine| server_context.machines.watch(machine).is_some());
        if is_adopted && let Some(turn) = hold_turn(server_context, row).await? {
            turns.insert(row.id.clone(), turn);
        }
    }
    Ok(turns)
}

/// The turn of a session whose machine has the credential already; `None`: it needs none.
async fn hold_turn(server_context: &ServerContext, row: &SessionRow) -> Result<Option<CredentialTurn>, StoreError> {
    let provider = server_context.providers().resolved(&row.provider, row.method.as_ref());
    let Some(credential) = provider.as_ref().and_then(|provider| turn_credential(row, provider)) else {
        return Ok(None);
    };
    server_context.credential_turns.hold(credential, &row.id).await.map(Some)
}

fn count(planned: &[PlannedAction], matches: impl Fn(&PlannedAction) -> bool) -> u32 {
    u32::try_from(planned.iter().filter(|planned| matches(planned)).count()).unwrap_or(u32::MAX)
}

fn log(action: &ReconcileAction) {
    let ReconcileAction { kind, session, machine, file, reason, outcome } = action;
    let (session, machine) = (session.as_ref().map(|id| id.as_str()), machine.as_ref().map(|id| id.as_str()));
    let (is_destructive, action, result) = (kind.is_destructive(), kind.as_str(), format!("{outcome:?}"));
    if is_destructive {
        tracing::warn!(outcome = result, action, session, machine, file, reason, "reconciliation action");
    } else {
        tracing::info!(outcome = result, action, session, machine, file, reason, "reconciliation action");
    }
}

/// Executes one action unless its cause no longer exists.
async fn execute(
    server_context: &ServerContext,
    planned: &PlannedAction,
    turns: &mut Turns,
) -> Result<ReconcileOutcome, StoreError> {
    if server_context.stop.is_cancelled() {
        return Ok(ReconcileOutcome::Deferred);
    }
    match &planned.action {
        PlannedActionKind::ResumeSession(row) => resume(server_context, row, turns.remove(&row.id)).await?,
        PlannedActionKind::EndSession { row, reason, detail } => {
            end::end_session(server_context, &row.id, *reason, detail).await?;
        }
        PlannedActionKind::StopMachine(machine) => {
            // A machine is entered in its session's state before it is started, so a machine without a session is orphaned.
            let is_used =
                server_context.sessions.by_machine(machine).is_some() || server_context.warm_machines.contains(machine);
            if !is_used {
                server_context.machines.stop(machine, StopReason::Orphaned);
            }
        }
        PlannedActionKind::RemoveReceipt(item) | PlannedActionKind::RemoveBundle(item) => {
            if let Err(error) = retention::remove_file(item) {
                tracing::warn!(outcome = "not_removed", path = %item.path.display(), %error, "old file not removed");
                return Ok(ReconcileOutcome::Failed);
            }
        }
        PlannedActionKind::ReportMachineEnd(end, receipt) => report_machine_end(server_context, end, receipt).await?,
    }
    Ok(ReconcileOutcome::Done)
}

/// Records the end of an ended session's machine on the timeline, once, with the time of the end.
async fn report_machine_end(
    server_context: &ServerContext,
    end: &UnreportedMachineEnd,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    server_context.timeline.wait_written(&end.session).await;
    if !exit_record::is_exit_recorded(server_context, &end.session, &end.machine).await? {
        let entry = exit_record::exit_entry(receipt.ended_unix_ms, &end.machine, &receipt.exit_reason(), Some(receipt));
        server_context.store.append_entry(&end.session, entry).await?;
    }
    server_context.reconcile_history.unreported_ends.remove(end);
    Ok(())
}

/// Goes on with a session that this host of a cluster has just taken: for the first time, or since the host that had it is lost.
///
/// # Errors
/// The database cannot be used; the next reconciliation goes on with it.
pub(super) async fn take_over(server_context: &ServerContext, row: &SessionRow) -> Result<(), StoreError> {
    resume_after(server_context, row, Some("the host that ran it is lost"), None).await
}

/// Resumes an active session whose server stopped or was killed: adopts its machine, or continues without one.
async fn resume(
    server_context: &ServerContext,
    row: &SessionRow,
    turn: Option<CredentialTurn>,
) -> Result<(), StoreError> {
    resume_after(server_context, row, None, turn).await
}

/// `why`: how a machine that is not on this host has ended; `None`: its receipt says it.
async fn resume_after(
    server_context: &ServerContext,
    row: &SessionRow,
    why: Option<&str>,
    turn: Option<CredentialTurn>,
) -> Result<(), StoreError> {
    // The plan has checked that the provider exists.
    let Some(provider) = server_context.providers().resolved(&row.provider, row.method.as_ref()) else { return Ok(()) };
    let provider = provider.with_settings(&row.settings);
    if server_context.sessions.get(&row.id).is_some() {
        return Ok(());
    }
    if use_credential::is_command_lost(server_context, row) {
        end::end_session(server_context, &row.id, EndReason::ControllerRestarted, use_credential::COMMAND_LOST).await?;
        return Ok(());
    }
    let provider = grant_host::with_granted_hosts(server_context, &row.id, provider).await?;
    let session = ActiveSession::new(row.id.clone(), Arc::new(provider), &server_context.close_signal);
    if row.generation == 1 && row.machine.is_none() {
        let waited_ms = session.started_at_ms.saturating_sub(row.created_at_ms);
        // Set once, here.
        let _ = session.waited_before.set(Duration::from_millis(waited_ms));
    }
    let Some(from) = supervisor_start(server_context, row, why, turn).await? else { return Ok(()) };
    supervisor::spawn_supervisor(server_context, Arc::clone(&session), row.clone(), from);
    // The row was read before the supervisor started: the session may have ended in between, by a delivery or a cancellation,
    // and the supervisor would not know.
    if let Some(end) = server_context.store.get_session(&row.id).await?.as_ref().and_then(SessionRow::end) {
        session.close(end.reason.kind);
    }
    Ok(())
}

/// How the session's supervisor starts; `None`: the session had to be ended.
async fn supervisor_start(
    server_context: &ServerContext,
    row: &SessionRow,
    why: Option<&str>,
    turn: Option<CredentialTurn>,
) -> Result<Option<SupervisorStart>, StoreError> {
    let state = row.machine.as_ref().and_then(|machine| server_context.machines.watch(machine));
    let owner = SessionOwner::of_row(row);
    let initial = lifecycle::initial_state(row.external_machine.is_some(), row.machine.is_some(), state.is_some());
    Ok(match (initial, row.machine.clone(), state) {
        (InitialState::Attached, _, _) => {
            let machine_use = server_context.queue.resume_external_machine(&owner);
            let agent_token = agent_token(server_context, row).await?;
            let turn = hold_turn(server_context, row).await?;
            agent_token.map(|agent_token| SupervisorStart::External { agent_token, machine_use, turn })
        }
        (InitialState::Adopted, Some(machine), Some(state)) => {
            agent_token(server_context, row).await?.map(|agent_token| SupervisorStart::Adopted {
                machine,
                agent_token,
                state,
                permit: server_context.queue.acquire_for_adopted(&owner),
                turn,
            })
        }
        (InitialState::Lost, Some(machine), _) => Some(match why {
            Some(why) => {
                SupervisorStart::Lost { reason: EndReason::ControllerRestarted, detail: why.to_owned(), exit: None }
            }
            None => lost_machine(server_context, machine).await?,
        }),
        (InitialState::Queued | InitialState::Adopted | InitialState::Lost, _, _) => {
            // It was accepted by the server before.
            Some(SupervisorStart::Queue { ticket: server_context.queue.enqueue_again(&owner), turn: None })
        }
    })
}

/// The hash of the agent token of the row's machine; `None`: the row has a machine without a token, which no server writes, and
/// the session had to be ended.
async fn agent_token(server_context: &ServerContext, row: &SessionRow) -> Result<Option<Sha256Hex>, StoreError> {
    if row.agent_token.is_none() {
        let detail = "The agent token of its machine is not on record.";
        end::end_session(server_context, &row.id, EndReason::Internal, detail).await?;
    }
    Ok(row.agent_token.clone())
}

/// A machine that was requested and does not run: its receipt reports how it ended, if it ever started.
async fn lost_machine(server_context: &ServerContext, machine: MachineId) -> Result<SupervisorStart, StoreError> {
    let receipt = server_context.machines.read_receipt(&machine).ok().flatten();
    let (reason, exit, detail) = match receipt {
        Some(receipt) => {
            let why = receipt.exit_reason();
            let detail = format!("while the server was away, {why}");
            // Only a reason that forbids a replacement matters more than the restart of the server.
            let reason = Some(supervisor::end_reason_of(&why)).filter(|reason| !reason.permits_replacement());
            (reason, Some(ExitRecord::of_earlier_server(machine, receipt)), detail)
        }
        None => (None, None, no_receipt(server_context, &machine).await?),
    };
    Ok(SupervisorStart::Lost { reason: reason.unwrap_or(EndReason::ControllerRestarted), detail, exit })
}

/// Why there is no receipt of a machine.
async fn no_receipt(server_context: &ServerContext, machine: &MachineId) -> Result<String, StoreError> {
    let restored = server_context.store.get_restored().await?;
    Ok(match restored.filter(|restored| machine.unix_ms() < restored.restored_at_ms) {
        Some(restored) => {
            let copied = match restored.from {
                RestoredFrom::Backup => "restored from the backup",
                RestoredFrom::Export => "filled from the export",
                RestoredFrom::Dump => "restored from a dump",
            };
            let made_at = unix_time::format_rfc3339(restored.made_at_ms);
            format!("this server was {copied} of {made_at}; the machine stayed with the server that was copied")
        }
        None => "the server ended before the machine started, or its end is not on record".to_owned(),
    })
}
