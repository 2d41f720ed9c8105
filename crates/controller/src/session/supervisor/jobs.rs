//! The long-running commands, one at a time. Each job ends with an event. A cancelled job has either done its one write or
//! not, and the caller relies on neither.
//!
//! A job that writes runs on a task: the supervisor polls its job only while it waits for events, and a write that is not
//! polled would block the only writing connection, also for the supervisor's next write.

use super::{claim, machine_slot::MachineOrigin, use_turn};
use crate::{
    api_error::chain,
    credentials::turns::{CredentialTurn, TurnTicket},
    session::{
        active_session::ActiveSession,
        end,
        lifecycle::Event,
        queue::{MachinePermit, QueueTicket, SessionOwner},
        server_context::ServerContext,
        status::Progress,
        timeline,
    },
    unix_time::now_unix_ms,
};
use anteroom_machine::Channels;
use anteroom_store::{
    ExpectedState, NewTimelineEntry, Reason, SessionChange, Sha256Hex, StoreError, TransitionOutcome,
};
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, MachineId, TimelineKind, backoff::Backoff};
use serde_json::json;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The first and the longest wait between retries of a database write, milliseconds.
const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 2_000;

/// A shorter wait in the queue does not move the session's deadline.
const QUEUE_WAIT_MIN: Duration = Duration::from_secs(1);

/// The command in progress.
pub(super) enum Job {
    /// Waits and writes nothing.
    Waiting(Pin<Box<dyn Future<Output = JobResult> + Send>>),
    /// Writes on its task.
    Writing(AbortOnDropHandle<JobResult>),
}

impl Job {
    fn writing(work: impl Future<Output = JobResult> + Send + 'static) -> Self {
        Self::Writing(AbortOnDropHandle::new(tokio::spawn(work)))
    }

    /// Cancels it; nothing of it happens afterwards.
    pub(super) async fn cancel(self) {
        if let Self::Writing(task) = self {
            task.abort();
            // Cancelled, finished or panicked: it has ended.
            let _ = task.await;
        }
    }
}

/// The result of a job.
pub(super) enum JobResult {
    /// The queue granted this permit; with the turn that was waited for.
    Permit(MachinePermit, Option<CredentialTurn>),
    /// This event happened.
    Event(Event),
}

impl From<Event> for JobResult {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Waits for the job, if there is one.
pub(super) async fn next_result(job: &mut Option<Job>) -> JobResult {
    match job {
        Some(Job::Waiting(job)) => job.await,
        Some(Job::Writing(task)) => match task.await {
            Ok(result) => result,
            // Panics here as well: the supervisor's guard ends the session.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_aborted) => std::future::pending().await,
            },
        },
        None => std::future::pending().await,
    }
}

/// Waits for the session's turn with its credential, then in the queue for a machine, for at most `sessions.queue_s_max` together:
/// activity of the user does not prolong it. A session that waits for its turn has no place in the queue.
pub(super) fn wait_in_queue(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    owner: SessionOwner,
    turn: Option<TurnTicket>,
    ticket: QueueTicket,
) -> Job {
    let wait_s_max = server_context.config().sessions.queue_s_max;
    let until = Instant::now() + Duration::from_secs(wait_s_max);
    let timed_out = move |reason, what| {
        let detail = format!("{what} within {wait_s_max} s (sessions.queue_s_max)");
        JobResult::Event(Event::QueueTimedOut { reason, detail })
    };
    Job::Waiting(Box::pin(async move {
        let turn = match turn {
            Some(turn) => Some(turn.try_acquire().await),
            None => None,
        };
        let (turn, ticket) = match turn {
            None => (None, ticket),
            Some(Ok(turn)) => (Some(turn), ticket),
            Some(Err((turn, _))) => {
                drop(ticket);
                let turn = use_turn::wait_for_turn(&server_context, &session, turn);
                let Ok(turn) = tokio::time::timeout_at(until, turn).await else {
                    return timed_out(EndReason::CredentialInUse, "its turn did not come");
                };
                (Some(turn), server_context.queue.enqueue_again(&owner))
            }
        };
        let queue = ticket.queue().clone();
        let acquired = ticket.acquire(|position| {
            let queue_wait_s = queue.usual_wait_s(position);
            session.update_state(|state| {
                (state.progress, state.queue_wait_s) = (Progress::Queued { position }, queue_wait_s);
            });
        });
        match tokio::time::timeout_at(until, acquired).await {
            Ok(permit) => JobResult::Permit(permit, turn),
            Err(_) => timed_out(EndReason::NoCapacity, "no machine became free for it"),
        }
    }))
}

/// Records the request for a machine and the hash of its agent token.
pub(super) fn request_machine(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    generation: u32,
    (machine, is_warm): (MachineId, bool),
    token_hash: Sha256Hex,
) -> Job {
    let mut change = SessionChange::new()
        .with_generation(generation)
        .with_machine(Some(machine.clone()))
        .with_agent_token(Some(token_hash))
        .with_claimed_generation(None)
        .with_cli_started(false);
    // The wait for the first machine does not count as duration of the session.
    let waited = session.started.elapsed() + session.waited_before.get().copied().unwrap_or_default();
    if generation == 1 && waited >= QUEUE_WAIT_MIN && session.left_queue.set(Instant::now()).is_ok() {
        let session_ms_max = server_context.config().sessions.session_s_max.saturating_mul(1_000);
        change = change.with_deadline(now_unix_ms() + session_ms_max);
    }
    Job::writing(async move {
        // Its keeper would end it at once.
        server_context.cluster.wait_may_act().await;
        let host = server_context.cluster.host_name(server_context.store.holder().as_ref());
        let entry = || {
            let mut data = json!({ "machine": machine, "generation": generation });
            let on = host.as_ref().map_or_else(String::new, |host| {
                data["host"] = json!(host);
                format!(" on host {host}")
            });
            let mut sentence = format!("Machine {generation} was requested{on}.");
            if is_warm {
                data["warm"] = true.into();
                sentence.push_str(" It was started before.");
            }
            timeline::new_entry(TimelineKind::MachineRequested, sentence).with_data(data)
        };
        write(&server_context, &session, change, entry, Event::RequestRecorded).await.into()
    })
}

/// Records that the machine is being replaced.
pub(super) fn record_replacement(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    generation: u32,
    reason: EndReason,
    detail: String,
) -> Job {
    let change = SessionChange::new()
        .with_generation(generation)
        .with_machine(None)
        .with_agent_token(None)
        .with_replacement_reason(Some(Reason::new(reason, detail.as_str())));
    Job::writing(async move {
        let entry = || {
            timeline::new_entry(TimelineKind::MachineReplaced, format!("The machine is being replaced: {detail}."))
                .with_data(json!({ "generation": generation, "reason": reason.code() }))
        };
        write(&server_context, &session, change, entry, Event::ReplacementRecorded).await.into()
    })
}

/// Claims the machine for this session.
pub(super) fn claim_machine(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    generation: u32,
    machine: MachineId,
    channels: Channels,
    origin: MachineOrigin,
) -> Job {
    Job::writing(async move {
        let claimed = claim::claim_machine(&server_context, &session, generation, &machine, &channels, &origin).await;
        claimed.map_or_else(|error| Event::ClaimFailed { why: chain(&error) }, |()| Event::Claimed).into()
    })
}

/// Waits before the next machine is requested.
pub(super) fn back_off(ms: u64) -> Job {
    Job::Waiting(Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Event::BackoffElapsed.into()
    }))
}

/// Writes the session's end, with retries until the database accepts it.
pub(super) fn end_session(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    reason: EndReason,
    detail: String,
) -> Job {
    Job::writing(async move {
        end::end_session_with_retries(&server_context, &session, reason, &detail).await;
        // If the server stops first, the next server resumes the row; the supervisor receives `ServerStopping`.
        match session.close_signal.cause() {
            Some(CloseCause::SessionEnded(reason)) => Event::SessionEnded(reason).into(),
            Some(
                CloseCause::ServerStopping
                | CloseCause::ClusterContactLost
                | CloseCause::MachineReplaced
                | CloseCause::CallerRevoked
                | CloseCause::HelperEnded
                | CloseCause::ViewerReplaced
                | CloseCause::CallerExpired,
            )
            | None => std::future::pending().await,
        }
    })
}

/// Writes one transition, with retries until the database accepts it. Returns the session's end if it has ended, and stops
/// when the server stops.
async fn write(
    server_context: &ServerContext,
    session: &ActiveSession,
    change: SessionChange,
    entry: impl Fn() -> NewTimelineEntry,
    on_success: Event,
) -> Event {
    let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
    loop {
        while !server_context.timeline.wait_written(&session.id).await {
            if server_context.stop.is_cancelled() {
                return Event::ServerStopping;
            }
        }
        match server_context.store.transition(&session.id, ExpectedState::Active, change.clone(), entry()).await {
            Ok(TransitionOutcome::Done { .. }) => {
                session.notify_subscribers();
                return on_success;
            }
            Ok(TransitionOutcome::Conflict(row)) => {
                let why = row.end().map_or(EndReason::Internal, |end| end.reason.kind);
                session.close(why);
                return Event::SessionEnded(why);
            }
            Err(error)
                if end::is_tampered(&error) && end::end_tampered_session(server_context, &session.id).await.is_ok() =>
            {
                return Event::SessionEnded(EndReason::SessionTampered);
            }
            // The supervisor ends as if the server stopped; the host that holds the session goes on.
            Err(StoreError::NotHolder(_)) => return Event::ServerStopping,
            Err(error) => {
                tracing::error!(outcome = "transition_not_written", session = %session.id, error = %chain(&error), "transition not written; retrying");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = server_context.stop.cancelled() => return Event::ServerStopping,
        }
    }
}
