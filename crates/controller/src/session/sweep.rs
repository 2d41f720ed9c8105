//! The sweep takes no input, may run at any moment, and only finishes what facts already demand: active rows without an
//! owner (overdue ones end, the others are resumed), machines that no session owns, spent passes.

use super::{
    end::{self, How},
    lifecycle::{self, Beginning},
    live::Live,
    owner::{self, From},
};
use crate::{app::App, clock, refusal::chain};
use anteroom_machine::{State, StopReason};
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::{MachineId, Problem};
use std::{sync::Arc, time::Duration};

/// Runs until the server stops. The first run, before this, is [`once`] at the start.
pub async fn run(app: App) {
    let mut every = tokio::time::interval(Duration::from_millis(app.config.sessions.sweep_every_ms));
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

/// One sweep.
///
/// # Errors
/// The database cannot be used; what was done before that stays done.
pub async fn once(app: &App) -> Result<(), StoreError> {
    let now = clock::now();
    for row in app.store.active_sessions().await? {
        if app.sessions.get(&row.id).is_none() && !app.stop.is_cancelled() {
            resume(app, row, now).await?;
        }
    }
    for (machine, _) in app.machines.list() {
        // A machine is entered in its session's facts before it is started, so this one has no session.
        if app.sessions.of_machine(&machine).is_none() {
            tracing::warn!(outcome = "machine_unowned", machine = %machine, "no session owns this machine; it is stopped");
            app.machines.stop(&machine, StopReason::Unowned);
        }
    }
    app.store.purge(now).await?;
    Ok(())
}

/// An active row whose owner is gone (a server stopped or was killed): take its machine over, or go on without.
async fn resume(app: &App, row: SessionRow, now: u64) -> Result<(), StoreError> {
    let Some(provider) = app.providers.get(&row.provider) else {
        let detail = format!("The provider {} is no longer configured.", row.provider);
        end::end(app, &row.id, How::Failed, Problem::ProviderUnavailable, &detail).await?;
        return Ok(());
    };
    if row.deadline_ms <= now {
        end::end(app, &row.id, How::Expired, Problem::DeadlineExpired, "").await?;
        return Ok(());
    }
    let live = Live::new(row.id.clone(), Arc::new(provider.clone()), row.generation, &app.ending);
    let Some(from) = origin(app, &row).await? else { return Ok(()) };
    tracing::info!(outcome = "resumed", session = %row.id, adopted = matches!(from, From::Adopted(..)), "a session without an owner was taken over");
    owner::own(app, live, row, from);
    Ok(())
}

/// Where the row's owner begins; `None`: the session had to be ended.
async fn origin(app: &App, row: &SessionRow) -> Result<Option<From>, StoreError> {
    let watched = row.machine.as_ref().and_then(|machine| app.machines.watch(machine));
    let beginning = lifecycle::beginning(row.external_machine.is_some(), row.machine.is_some(), watched.is_some());
    Ok(match (beginning, row.machine.clone(), watched) {
        (Beginning::Attached, _, _) => Some(From::External),
        (Beginning::Adopted, Some(machine), Some(state)) => {
            Some(From::Adopted(machine, state, app.queue.take_for_adopted()))
        }
        (Beginning::Lost, Some(machine), _) => Some(lost(app, machine)),
        (Beginning::Line | Beginning::Adopted | Beginning::Lost, _, _) => match app.queue.stand(row.id.clone()) {
            Ok(place) => Some(From::Queue(place)),
            Err(full) => {
                end::end(app, &row.id, How::Failed, Problem::NoCapacity, &full.to_string()).await?;
                None
            }
        },
    })
}

/// A machine that was asked for and is not there: its receipt says how it ended, if it ever began.
fn lost(app: &App, machine: MachineId) -> From {
    let receipt = app.machines.receipt(&machine).ok().flatten();
    let (state, detail) = match receipt {
        Some(receipt) => {
            let why = receipt.how.reason();
            let detail = format!("while the server was away, {why}");
            (Some(State::Gone { why, receipt: Some(Box::new(receipt)) }), detail)
        }
        None => (None, "the server ended before the machine began, or nothing is on record of its end".into()),
    };
    From::Lost { machine, problem: Problem::ControllerRestarted, detail, state }
}
