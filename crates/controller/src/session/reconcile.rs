//! The sweep takes no input, may run at any moment, and only finishes what facts already demand.
//!
//! ```text
//!  look ─▶ Seen ──plan (pure)──▶ what, and why ──▶ carry out ─▶ log, record
//!                                      └──▶ or only told (`anteroom sweep --dry-run`)
//! ```
//!
//! What it can do is a closed list ([`ReconcileActionKind`]): active rows without an owner are resumed, or end when they are overdue;
//! machines that no session owns are stopped; old or half-written evidence goes; how machines ended that outlived both their
//! session and its server is told. Whatever somebody may miss is limited to
//! `sessions.sweep_stops_max` a sweep, so that a fault of ours, or a clock that jumps, cannot end everything at once.
//!
//! A session that has an owner is never touched here: its owner holds its deadlines.

pub mod history;
mod plan;
mod snapshot;

pub use history::{Last, Sweeps};

use super::{
    active_session::ActiveSession,
    end,
    lifecycle::{self, EndKind, InitialState},
    supervisor::{self, Start, machine_exit},
    timeline, use_credential,
};
use crate::{api_error::chain, app::App, clock, credentials, retention};
use anteroom_machine::{Receipt, State, StopReason};
use anteroom_store::{NewEvent, SessionRow, StoreError, UnreportedEnd};
use anteroom_wire::{
    MachineId, Problem,
    operations::{ReconcileAction, ReconcileOutcome, ReconcileReport},
};
use plan::{Planned, Subject};
use std::{sync::Arc, time::Duration};

/// Runs until the server stops. The first run, before this, is [`once`] at the start.
pub async fn run(app: App) {
    let period = Duration::from_millis(app.config.sessions.sweep_every_ms);
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = app.stop.cancelled() => return,
        }
        if let Err(error) = once(&app).await {
            tracing::error!(outcome = "sweep_failed", error = %chain(&error), "the sweep could not finish");
        }
    }
}

/// What a sweep would do now; nothing is done.
///
/// # Errors
/// The database cannot be read.
pub async fn dry_run(app: &App) -> Result<ReconcileReport, StoreError> {
    let planned = plan::plan(snapshot::collect(app).await?, app.config.sessions.sweep_stops_max);
    let deferred = count(&planned, |planned| planned.is_deferred);
    let actions = planned.into_iter().map(|planned| {
        let outcome = if planned.is_deferred { ReconcileOutcome::Deferred } else { ReconcileOutcome::Planned };
        planned.told(outcome)
    });
    Ok(ReconcileReport {
        dry_run: true,
        at: clock::rfc3339(clock::now()),
        actions: actions.collect(),
        deferred,
        failed: 0,
    })
}

/// One sweep.
///
/// # Errors
/// The database cannot be used; what was done before that stays done.
pub async fn once(app: &App) -> Result<ReconcileReport, StoreError> {
    let _alone = app.sweeps.alone().await;
    let swept = sweep(app).await;
    match &swept {
        Ok(report) => app.sweeps.finished(report, clock::now()),
        Err(_) => app.sweeps.failed(),
    }
    swept
}

async fn sweep(app: &App) -> Result<ReconcileReport, StoreError> {
    let at = clock::rfc3339(clock::now());
    let planned = plan::plan(snapshot::collect(app).await?, app.config.sessions.sweep_stops_max);
    let deferred = count(&planned, |planned| planned.is_deferred);
    let mut actions = Vec::with_capacity(planned.len());
    for planned in planned {
        let outcome = if planned.is_deferred { ReconcileOutcome::Deferred } else { carry_out(app, &planned).await? };
        let action = planned.told(outcome);
        log(&action);
        actions.push(action);
    }
    credentials::expire_due(app).await?;
    app.store.purge(clock::now()).await?;
    let failed = actions.iter().filter(|action| action.outcome == ReconcileOutcome::Failed).count();
    let report =
        ReconcileReport { dry_run: false, at, deferred, failed: u32::try_from(failed).unwrap_or(u32::MAX), actions };
    if !report.actions.is_empty() {
        let count = report.actions.len();
        tracing::info!(outcome = "swept", count, deferred, failed, "the sweep found something to do");
    }
    Ok(report)
}

fn count(planned: &[Planned], is: impl Fn(&Planned) -> bool) -> u32 {
    u32::try_from(planned.iter().filter(|planned| is(planned)).count()).unwrap_or(u32::MAX)
}

fn log(action: &ReconcileAction) {
    let ReconcileAction { kind, session, machine, file, reason, outcome } = action;
    let (session, machine) = (session.as_ref().map(|id| id.as_str()), machine.as_ref().map(|id| id.as_str()));
    let (is_destructive, kind, became) = (kind.is_destructive(), kind.as_str(), format!("{outcome:?}"));
    if is_destructive {
        tracing::warn!(outcome = kind, became, session, machine, file, reason, "the sweep acts");
    } else {
        tracing::info!(outcome = kind, became, session, machine, file, reason, "the sweep acts");
    }
}

/// Does one thing, unless it is no longer so.
async fn carry_out(app: &App, planned: &Planned) -> Result<ReconcileOutcome, StoreError> {
    if app.stop.is_cancelled() {
        return Ok(ReconcileOutcome::Deferred);
    }
    match &planned.subject {
        Subject::Resumed(row) => resume(app, row).await?,
        Subject::Ended { row, how, problem, detail } => {
            end::end(app, &row.id, *how, *problem, detail).await?;
        }
        Subject::Machine(machine) => {
            // A machine is entered in its session's facts before it is started, so one without has no session.
            if app.sessions.by_machine(machine).is_none() {
                app.machines.stop(machine, StopReason::Orphaned);
            }
        }
        Subject::Receipt(item) | Subject::Bundle(item) => {
            if let Err(error) = retention::remove(item) {
                tracing::warn!(outcome = "not_removed", path = %item.path.display(), %error, "old evidence could not be removed");
                return Ok(ReconcileOutcome::Failed);
            }
        }
        Subject::MachineEnd(end, receipt) => tell_end(app, end, receipt).await?,
    }
    Ok(ReconcileOutcome::Done)
}

/// Puts the end of an ended session's machine on its timeline, once, with the time at which it was complete.
async fn tell_end(app: &App, end: &UnreportedEnd, receipt: &Receipt) -> Result<(), StoreError> {
    timeline::flush(app, &end.session).await;
    if !machine_exit::is_recorded(app, &end.session, &end.machine).await? {
        let (sentence, data) = machine_exit::exit_entry(&end.machine, &receipt.reason(), Some(receipt));
        let event = NewEvent::new(receipt.ended_unix_ms, machine_exit::MACHINE_EXITED, sentence).with(data);
        app.store.append_event(&end.session, event).await?;
    }
    app.sweeps.untold.forget(end);
    Ok(())
}

/// An active row whose owner is gone (a server stopped or was killed): take its machine over, or go on without.
async fn resume(app: &App, row: &SessionRow) -> Result<(), StoreError> {
    // The plan has seen the provider.
    let Some(provider) = app.providers.resolved(&row.provider, row.method.as_ref()) else { return Ok(()) };
    if app.sessions.get(&row.id).is_some() {
        return Ok(());
    }
    if use_credential::is_lost(app, row) {
        end::end(app, &row.id, EndKind::Failed, Problem::ControllerRestarted, use_credential::LOST).await?;
        return Ok(());
    }
    let session = ActiveSession::new(row.id.clone(), Arc::new(provider), row.generation, &app.close_signal);
    let Some(from) = origin(app, row).await? else { return Ok(()) };
    supervisor::spawn_supervisor(app, Arc::clone(&session), row.clone(), from);
    // The row was read before the session had an owner: its agent may have delivered meanwhile, or somebody cancelled it, and there
    // was nobody to be told. From here on there is.
    if let Some(end) = app.store.session(&row.id).await?.as_ref().and_then(SessionRow::end) {
        session.close(end.reason.problem);
    }
    Ok(())
}

/// Where the row's owner begins; `None`: the session had to be ended.
async fn origin(app: &App, row: &SessionRow) -> Result<Option<Start>, StoreError> {
    let watched = row.machine.as_ref().and_then(|machine| app.machines.watch(machine));
    let beginning = lifecycle::initial_state(row.external_machine.is_some(), row.machine.is_some(), watched.is_some());
    Ok(match (beginning, row.machine.clone(), watched) {
        (InitialState::Attached, _, _) => Some(Start::External),
        (InitialState::Adopted, Some(machine), Some(state)) => {
            Some(Start::Adopted(machine, state, app.queue.acquire_for_adopted()))
        }
        (InitialState::Lost, Some(machine), _) => Some(lost(app, machine)),
        (InitialState::Queued | InitialState::Adopted | InitialState::Lost, _, _) => {
            match app.queue.enqueue(row.id.clone()) {
                Ok(ticket) => Some(Start::Queue(ticket)),
                Err(full) => {
                    end::end(app, &row.id, EndKind::Failed, Problem::NoCapacity, &full.to_string()).await?;
                    None
                }
            }
        }
    })
}

/// A machine that was asked for and is not there: its receipt says how it ended, if it ever began.
fn lost(app: &App, machine: MachineId) -> Start {
    let receipt = app.machines.receipt(&machine).ok().flatten();
    let (state, detail) = match receipt {
        Some(receipt) => {
            let why = receipt.reason();
            let detail = format!("while the server was away, {why}");
            (Some(State::Removed { why, receipt: Some(Box::new(receipt)) }), detail)
        }
        None => (None, "the server ended before the machine began, or nothing is on record of its end".into()),
    };
    Start::Lost { machine, problem: Problem::ControllerRestarted, detail, state }
}
