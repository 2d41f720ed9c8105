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
        queue::{MachinePermit, QueueTicket},
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
    Waiting(Pin<Box<dyn Future<Output = JobResult> + Send>>),
    /// It writes.
    Writing(AbortOnDropHandle<JobResult>),
}

impl Job {
    fn writing(what: impl Future<Output = JobResult> + Send + 'static) -> Self {
        Self::Writing(AbortOnDropHandle::new(tokio::spawn(what)))
    }

    /// Ends it; nothing of it happens afterwards.
    pub(super) async fn cancel(self) {
        if let Self::Writing(task) = self {
            task.abort();
            // Given up, done or panicked: over.
            let _ = task.await;
        }
    }
}

/// What came of it.
pub(super) struct JobResult {
    /// What the lifecycle is told.
    pub event: Event,
    /// MachinePermit for a machine.
    pub permit: Option<MachinePermit>,
}

impl From<Event> for JobResult {
    fn from(event: Event) -> Self {
        Self { event, permit: None }
    }
}

/// Waits for the job, if there is one.
pub(super) async fn next(job: &mut Option<Job>) -> JobResult {
    match job {
        Some(Job::Waiting(job)) => job.await,
        Some(Job::Writing(task)) => match task.await {
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
pub(super) fn wait_in_queue(session: Arc<ActiveSession>, ticket: QueueTicket) -> Job {
    Job::Waiting(Box::pin(async move {
        let permit = ticket.take(|position| session.set_progress(Progress::Queued { position })).await;
        JobResult { event: Event::PermitGranted, permit: Some(permit) }
    }))
}

/// Writes that this machine is asked for and which token it will have.
pub(super) fn request_machine(
    app: App,
    session: Arc<ActiveSession>,
    generation: u32,
    machine: MachineId,
    token: &Secret,
) -> Job {
    let change = Change::new()
        .generation(generation)
        .machine(Some(machine.clone()))
        .agent_token(Some(Sha256Hex::of_secret(token)))
        .claimed_generation(None)
        .cli_started(false);
    Job::writing(async move {
        let event = |now| {
            NewEvent::new(now, "machine_requested", format!("Machine {generation} was asked for."))
                .with(json!({ "machine": machine, "generation": generation }))
        };
        write(&app, &session, change, event, Event::RequestRecorded).await.into()
    })
}

/// Writes that the machine is being replaced.
pub(super) fn record_replacement(
    app: App,
    session: Arc<ActiveSession>,
    generation: u32,
    problem: Problem,
    detail: String,
) -> Job {
    let change = Change::new()
        .generation(generation)
        .machine(None)
        .agent_token(None)
        .setback(Some(Reason::new(problem, detail.as_str())));
    Job::writing(async move {
        let event = |now| {
            NewEvent::new(now, "machine_replaced", format!("The machine is being replaced: {detail}."))
                .with(json!({ "generation": generation, "reason": problem.code() }))
        };
        write(&app, &session, change, event, Event::ReplacementRecorded).await.into()
    })
}

/// Makes the machine this session's.
pub(super) fn claim(
    app: App,
    session: Arc<ActiveSession>,
    generation: u32,
    machine: MachineId,
    channels: Channels,
    token: Option<Secret>,
) -> Job {
    Job::writing(async move {
        let claimed = claim::claim(&app, &session, generation, &machine, &channels, token.as_ref()).await;
        claimed.map_or_else(|why| Event::ClaimFailed { why }, |()| Event::Claimed).into()
    })
}

/// Waits before another machine is asked for.
pub(super) fn back_off(ms: u64) -> Job {
    Job::Waiting(Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Event::BackoffElapsed.into()
    }))
}

/// Writes the session's end until the database takes it.
pub(super) fn end(app: App, session: Arc<ActiveSession>, how: EndKind, problem: Problem, detail: String) -> Job {
    Job::writing(async move {
        end::end_at_last(&app, &session, how, problem, &detail).await;
        // A server that stops first leaves the row to the next one, and the owner hears that it stops.
        match session.close_signal.cause() {
            Some(cause) => Event::SessionEnded(cause).into(),
            None => std::future::pending().await,
        }
    })
}

/// One transition, tried until the database takes it. A row that has ended says so; a server that stops ends the try.
async fn write(
    app: &App,
    session: &ActiveSession,
    change: Change,
    event: impl Fn(clock::UnixMs) -> NewEvent,
    then: Event,
) -> Event {
    let mut wait = Duration::from_millis(20);
    loop {
        while !timeline::flush(app, &session.id).await {
            if app.stop.is_cancelled() {
                return Event::ServerStopping;
            }
        }
        match app.store.transition(&session.id, Expect::Active, change.clone(), event(clock::now())).await {
            Ok(Transition::JobResult { .. }) => {
                session.notify();
                return then;
            }
            Ok(Transition::Conflict(row)) => {
                let why = row.end().map_or(Problem::Internal, |end| end.reason.problem);
                session.close(why);
                return Event::SessionEnded(why);
            }
            Err(error) => {
                tracing::error!(outcome = "transition_not_written", session = %session.id, error = %chain(&error), "trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(deadlines::RETRY_MAX),
            () = app.stop.cancelled() => return Event::ServerStopping,
        }
    }
}
