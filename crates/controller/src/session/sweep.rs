//! The sweep takes no input, may run at any moment, and only finishes what facts already demand: active rows without an
//! owner (overdue ones end, the others are resumed), machines that no session owns, spent passes.

use super::{
    end::{self, How},
    live::Live,
    owner::{self, From},
};
use crate::{app::App, clock, refusal::chain};
use anteroom_machine::StopReason;
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::Problem;
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
    let adopted = row.machine.as_ref().and_then(|machine| Some((machine.clone(), app.machines.watch(machine)?)));
    let from = match adopted {
        Some((machine, state)) => {
            live.change(|facts| {
                facts.generation = row.generation;
                facts.machine = Some(machine.clone());
                facts.agent_token.clone_from(&row.agent_token);
            });
            From::Adopted(machine, state, app.queue.take_for_adopted())
        }
        None if row.machine.is_some() => From::Lost {
            problem: Problem::ControllerRestarted,
            detail: "the machine ended while the server was away".into(),
        },
        None => match app.queue.stand(row.id.clone()) {
            Ok(place) => From::Queue(place),
            Err(full) => {
                end::end(app, &row.id, How::Failed, Problem::NoCapacity, &full.to_string()).await?;
                return Ok(());
            }
        },
    };
    tracing::info!(outcome = "resumed", session = %row.id, adopted = matches!(from, From::Adopted(..)), "a session without an owner was taken over");
    owner::own(app, live, row, from);
    Ok(())
}
