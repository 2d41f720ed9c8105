//! When a session ends because nobody used it, or at its cap. Kept in the time that only goes forward: a clock that is set
//! anew neither ends nor prolongs a session while its server lives.

use crate::{
    app::App,
    clock,
    session::{
        active_session::ActiveSession,
        lifecycle::{Delivery, Event},
    },
};
use anteroom_store::SessionRow;
use anteroom_wire::Problem;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The longest wait before something that the database did not take is tried again.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(2);

/// Waits until a deadline has passed, but at least for `after`. Tells the database of the session's use now and then.
///
/// A credential that waits to be delivered holds a deadline back, for as long as the settings say.
pub(super) async fn deadline_passed(app: App, session: Arc<ActiveSession>, row: SessionRow, after: Duration) -> Event {
    tokio::time::sleep(after).await;
    let settings = &app.config.sessions;
    // A server that starts after the clock was set back must not give more than there was to give.
    let left_ms =
        row.deadline_ms.saturating_sub(session.started_at_ms).min(settings.session_s_max.saturating_mul(1_000));
    let cap = session.started + Duration::from_millis(left_ms);
    let grace = Duration::from_secs(settings.idle_s_max);
    let hold_max = Duration::from_secs(settings.delivery_grace_s);
    let look_every = Duration::from_millis(settings.sweep_every_ms);
    let mut state = session.watch();
    let mut end_received = session.activity.last();
    loop {
        let now = Instant::now();
        let last = session.activity.last();
        if last > end_received {
            end_received = last;
            // A task of its own: while the session's owner carries out an order it polls nothing of this, and a write that rests
            // halfway holds the only writing connection, also against that order.
            let remembering = tokio::spawn(write_last_use(app.clone(), Arc::clone(&session), last));
            let _ended = AbortOnDropHandle::new(remembering).await;
        }
        let idle = last + grace;
        let (at, problem, detail) = if cap <= idle {
            (cap, Problem::DeadlineExpired, format!("It may last {} s.", settings.session_s_max))
        } else {
            (idle, Problem::IdleExpired, format!("It may be idle for {} s.", settings.idle_s_max))
        };
        if now < at {
            tokio::time::sleep_until((now + look_every).min(at)).await;
            continue;
        }
        let hold_expired = now >= at + hold_max;
        if hold_expired || state.borrow_and_update().delivery() == Delivery::None {
            return Event::DeadlinePassed { problem, detail, hold_expired };
        }
        tokio::select! {
            _ = state.wait_for(|state| state.delivery() == Delivery::None) => {}
            () = tokio::time::sleep_until((now + look_every).min(at + hold_max)) => {}
        }
    }
}

async fn write_last_use(app: App, session: Arc<ActiveSession>, last: Instant) {
    let ago = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
    let at = clock::now().saturating_sub(ago);
    let idle_deadline = at + app.config.sessions.idle_s_max * 1_000;
    match app.store.touch(&session.id, at, Some(idle_deadline)).await {
        Ok(_) => session.notify(),
        Err(error) => {
            tracing::warn!(outcome = "touch_lost", session = %session.id, error = %crate::api_error::chain(&error), "a session's use could not be written");
        }
    }
}
