//! The deadlines of a session: idle time and total time. Measured with the monotonic clock, so that a change of the system
//! clock neither ends nor prolongs a session while the server runs.

use crate::{
    api_error::chain,
    session::server_context::ServerContext,
    session::{
        active_session::{ActiveSession, SessionState},
        lifecycle::{DeliveryState, Event},
        status::Progress,
    },
    unix_time,
};
use anteroom_store::SessionRow;
use anteroom_wire::{EndReason, time::to_millis};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// A deadline waits at most this long for a delivery in progress, seconds. The user has signed in already, so the credential is worth
/// a minute.
const DELIVERY_GRACE_S: u64 = 60;

/// Waits until a deadline has passed, but at least for `after`. Writes the time of last use to the database at intervals.
///
/// A pending delivery postpones the deadline by at most [`DELIVERY_GRACE_S`].
pub(super) async fn deadline_passed(
    server_context: ServerContext,
    session: Arc<ActiveSession>,
    row: SessionRow,
    after: Duration,
) -> Event {
    tokio::time::sleep(after).await;
    let config = server_context.config();
    let settings = &config.sessions;
    // If the clock was set back before this server started, the session still gets no more than its total time.
    let left_ms =
        row.deadline_ms.saturating_sub(session.started_at_ms).min(settings.session_s_max.saturating_mul(1_000));
    let cap_of_row = session.started + Duration::from_millis(left_ms);
    let idle_max = Duration::from_secs(settings.idle_s_max);
    let hold_max = Duration::from_secs(DELIVERY_GRACE_S);
    let recheck_every = Duration::from_millis(server_context.limits.sessions.reconcile_every_ms);
    let mut state = session.subscribe_state();
    let mut written = session.activity.last_at();
    loop {
        let now = Instant::now();
        let last = session.activity.last_at();
        if last > written {
            written = last;
            // On a separate task: while the supervisor executes a command it does not poll this future, and an unpolled write
            // would block the only writing connection, also for that command.
            let writing = tokio::spawn(write_last_use(server_context.clone(), Arc::clone(&session), last));
            let _ended = AbortOnDropHandle::new(writing).await;
        }
        let idle = (last + idle_max).max(code_shown_until(&state).unwrap_or(last));
        let cap = match session.left_queue.get() {
            Some(left_queue) => *left_queue + Duration::from_secs(settings.session_s_max),
            // `sessions.queue_s_max` limits the wait for the first machine.
            None if row.generation <= 1 && waits_in_queue(&state) => cap_of_row.max(now + recheck_every),
            None => cap_of_row,
        };
        let (at, reason, detail) = if cap <= idle {
            (cap, EndReason::DeadlineExpired, format!("It may last {} s.", settings.session_s_max))
        } else {
            (idle, EndReason::IdleExpired, format!("It may be idle for {} s.", settings.idle_s_max))
        };
        if now < at {
            tokio::time::sleep_until((now + recheck_every).min(at)).await;
            continue;
        }
        let hold_expired = now >= at + hold_max;
        if hold_expired || state.borrow_and_update().delivery() == DeliveryState::None {
            return Event::DeadlinePassed { reason, detail, hold_expired };
        }
        tokio::select! {
            _ = state.wait_for(|state| state.delivery() == DeliveryState::None) => {}
            () = tokio::time::sleep_until((now + recheck_every).min(at + hold_max)) => {}
        }
    }
}

/// The person may enter the code that the page shows until it expires.
fn code_shown_until(state: &watch::Receiver<SessionState>) -> Option<Instant> {
    let state = state.borrow();
    Some(state.machine.as_ref()?.sign_in.device_code_until(&state.provider)?.at)
}

fn waits_in_queue(state: &watch::Receiver<SessionState>) -> bool {
    matches!(state.borrow().progress, Progress::Queued { .. })
}

async fn write_last_use(server_context: ServerContext, session: Arc<ActiveSession>, last: Instant) {
    let ago = to_millis(last.elapsed());
    let at = unix_time::now_unix_ms().saturating_sub(ago);
    let idle_deadline = at + server_context.config().sessions.idle_s_max * 1_000;
    match server_context.store.record_session_use(&session.id, at, Some(idle_deadline)).await {
        Ok(_) => session.notify_subscribers(),
        Err(error) => {
            tracing::warn!(outcome = "last_use_not_written", session = %session.id, error = %chain(&error), "time of last use not written");
        }
    }
}
