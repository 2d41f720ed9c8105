//! The orders that take time, one at a time: each comes back with what came of it. A job that is given up has either done
//! its one write or not; whoever gave it up does not rely on either.
//!
//! What writes runs on a task of its own. The owner polls its job only while it waits for events: a write that rested halfway in
//! between would hold the only writing connection, also against the owner's own next write.

use super::{claim, deadlines};
use crate::{
    api_error::chain,
    app::App,
    clock,
    session::{
        active_session::ActiveSession,
        end,
        lifecycle::Event,
        note,
        queue::{Place, Room},
        status::Progress,
    },
};
use anteroom_machine::Channels;
use anteroom_store::{Change, Expect, NewEvent, Reason, Sha256Hex, Transition};
use anteroom_wire::{MachineId, Problem, Secret};
use serde_json::json;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;

/// What is under way.
pub(super) enum Job {
    /// It only waits.
    Waits(Pin<Box<dyn Future<Output = Done> + Send>>),
    /// It writes.
    Writes(AbortOnDropHandle<Done>),
}

impl Job {
    fn writes(what: impl Future<Output = Done> + Send + 'static) -> Self {
        Self::Writes(AbortOnDropHandle::new(tokio::spawn(what)))
    }

    /// Ends it; nothing of it happens afterwards.
    pub(super) async fn give_up(self) {
        if let Self::Writes(task) = self {
            task.abort();
            // Given up, done or panicked: over.
            let _ = task.await;
        }
    }
}

/// What came of it.
pub(super) struct Done {
    /// What the lifecycle is told.
    pub event: Event,
    /// Room for a machine.
    pub room: Option<Room>,
}

impl From<Event> for Done {
    fn from(event: Event) -> Self {
        Self { event, room: None }
    }
}

/// Waits for the job, if there is one.
pub(super) async fn next(job: &mut Option<Job>) -> Done {
    match job {
        Some(Job::Waits(job)) => job.await,
        Some(Job::Writes(task)) => match task.await {
            Ok(done) => done,
            // As if it had been done here: the owner's guard ends the session.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_aborted) => std::future::pending().await,
            },
        },
        None => std::future::pending().await,
    }
}

/// Stands in line.
pub(super) fn stand(live: Arc<ActiveSession>, place: Place) -> Job {
    Job::Waits(Box::pin(async move {
        let room = place.take(|position| live.set(Progress::Queued { position })).await;
        Done { event: Event::RoomGiven, room: Some(room) }
    }))
}

/// Writes that this machine is asked for and which token it will have.
pub(super) fn ask(app: App, live: Arc<ActiveSession>, generation: u32, machine: MachineId, token: &Secret) -> Job {
    let change = Change::new()
        .generation(generation)
        .machine(Some(machine.clone()))
        .agent_token(Some(Sha256Hex::of_secret(token)))
        .claimed_generation(None)
        .cli_started(false);
    Job::writes(async move {
        let event = |now| {
            NewEvent::new(now, "machine_requested", format!("Machine {generation} was asked for."))
                .with(json!({ "machine": machine, "generation": generation }))
        };
        write(&app, &live, change, event, Event::Asked).await.into()
    })
}

/// Writes that the machine is being replaced.
pub(super) fn set_back(app: App, live: Arc<ActiveSession>, generation: u32, problem: Problem, detail: String) -> Job {
    let change = Change::new()
        .generation(generation)
        .machine(None)
        .agent_token(None)
        .setback(Some(Reason::new(problem, detail.as_str())));
    Job::writes(async move {
        let event = |now| {
            NewEvent::new(now, "machine_replaced", format!("The machine is being replaced: {detail}."))
                .with(json!({ "generation": generation, "reason": problem.code() }))
        };
        write(&app, &live, change, event, Event::SetBack).await.into()
    })
}

/// Makes the machine this session's.
pub(super) fn claim(
    app: App,
    live: Arc<ActiveSession>,
    generation: u32,
    machine: MachineId,
    channels: Channels,
    token: Option<Secret>,
) -> Job {
    Job::writes(async move {
        let claimed = claim::claim(&app, &live, generation, &machine, &channels, token.as_ref()).await;
        claimed.map_or_else(|why| Event::ClaimFailed { why }, |()| Event::Claimed).into()
    })
}

/// Waits before another machine is asked for.
pub(super) fn pause(ms: u64) -> Job {
    Job::Waits(Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Event::Paused.into()
    }))
}

/// Writes the session's end until the database takes it.
pub(super) fn end(app: App, live: Arc<ActiveSession>, how: EndKind, problem: Problem, detail: String) -> Job {
    Job::writes(async move {
        end::end_at_last(&app, &live, how, problem, &detail).await;
        // A server that stops first leaves the row to the next one, and the owner hears that it stops.
        match live.close_signal.cause() {
            Some(cause) => Event::Ended(cause).into(),
            None => std::future::pending().await,
        }
    })
}

/// One transition, tried until the database takes it. A row that has ended says so; a server that stops ends the try.
async fn write(
    app: &App,
    live: &ActiveSession,
    change: Change,
    event: impl Fn(clock::UnixMs) -> NewEvent,
    then: Event,
) -> Event {
    let mut wait = Duration::from_millis(20);
    loop {
        while !timeline::flush(app, &live.id).await {
            if app.stop.is_cancelled() {
                return Event::ServerStops;
            }
        }
        match app.store.transition(&live.id, Expect::Active, change.clone(), event(clock::now())).await {
            Ok(Transition::Done { .. }) => {
                live.tell();
                return then;
            }
            Ok(Transition::Conflict(row)) => {
                let why = row.end().map_or(Problem::Internal, |end| end.reason.problem);
                live.close(why);
                return Event::Ended(why);
            }
            Err(error) => {
                tracing::error!(outcome = "transition_not_written", session = %live.id, error = %chain(&error), "trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(deadlines::RETRY_MAX),
            () = app.stop.cancelled() => return Event::ServerStops,
        }
    }
}
