//! Event streams of all sessions of a caller: each sends the view of a session when it changes.

use crate::auth::LiveCaller;
use anteroom_controller::{
    api_error::ApiError,
    caller::{Action, Caller, permits},
    session::{changes::ChangesSince, context::SessionContext, view},
};
use anteroom_store::Role;
use anteroom_wire::{CallerId, Problem, SessionId};
use axum::response::sse::Event;
use futures_util::Stream;
use parking_lot::Mutex;
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Streams of all sessions that one caller has open.
pub(crate) const LIST_STREAMS_OF_CALLER_MAX: usize = 16;
/// Streams of all sessions of all callers together.
pub(crate) const LIST_STREAMS_MAX: usize = 256;
/// Those that other callers leave to operators: the start pages of people have such streams, too, and can do without.
pub(crate) const LIST_STREAMS_OF_OPERATORS_MIN: usize = 64;
/// Time between two reads of sessions that change all the time, milliseconds.
pub(crate) const LIST_READ_MS_MIN: u64 = 200;
/// Events that wait for one slow client.
const EVENTS_MAX: usize = 16;

type EventSender = mpsc::Sender<Result<Event, Infallible>>;

/// The open streams by caller. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SessionListStreams(Arc<Mutex<HashMap<CallerId, usize>>>);

/// Counts a stream for as long as it exists.
struct Place {
    streams: SessionListStreams,
    caller: CallerId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

impl SessionListStreams {
    fn take_place(&self, caller: &Caller) -> Result<Place, ApiError> {
        let total_max =
            LIST_STREAMS_MAX - if caller.role == Role::Operator { 0 } else { LIST_STREAMS_OF_OPERATORS_MIN };
        let caller = &caller.id;
        let mut open = self.0.lock();
        let (total, of_caller) = (open.values().sum::<usize>(), open.get(caller).copied().unwrap_or(0));
        for (count, max, what) in
            [(of_caller, LIST_STREAMS_OF_CALLER_MAX, "this caller has"), (total, total_max, "all callers have")]
        {
            if count >= max {
                let detail = format!("{what} {count} event streams of all sessions open; the limit is {max}");
                return Err(ApiError::new(Problem::TooManyStreams, detail));
            }
        }
        *open.entry(caller.clone()).or_default() += 1;
        Ok(Place { streams: self.clone(), caller: caller.clone() })
    }

    /// Opens a stream of the caller's sessions that change after this number.
    ///
    /// # Errors
    /// There are too many streams.
    pub(crate) fn stream(
        &self,
        context: &SessionContext,
        caller: Caller,
        live_caller: LiveCaller,
        after: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Event, Infallible>> + use<>, ApiError> {
        let place = self.take_place(&caller)?;
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let context = context.clone();
        context.tasks.clone().spawn(async move {
            let _place = place;
            tokio::select! {
                () = send_changes(&context, &caller, after, &sender) => {}
                () = sender.closed() => {}
                cause = live_caller.signal().wait_closed() => {
                    if let Ok(data) = serde_json::to_string(&Problem::from(cause).with_detail("")) {
                        let _ = sender.send(Ok(Event::default().event("closed").data(data))).await;
                    }
                }
                () = context.stop.cancelled() => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Sends changes until the client has disconnected.
async fn send_changes(context: &SessionContext, caller: &Caller, mut after: Option<u64>, sender: &EventSender) {
    let changes = &context.sessions.changes;
    let mut newest = changes.subscribe();
    loop {
        newest.borrow_and_update();
        let sent = match changes.since(after) {
            ChangesSince::Forgotten(number) => {
                after = Some(number);
                sender.send(Ok(Event::default().event("reset").id(number.to_string()).data("{}"))).await
            }
            ChangesSince::Sessions(sessions) => send_sessions(context, caller, sessions, &mut after, sender).await,
        };
        if sent.is_err() || newest.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(LIST_READ_MS_MIN)).await;
    }
}

async fn send_sessions(
    context: &SessionContext,
    caller: &Caller,
    sessions: Vec<(u64, SessionId)>,
    after: &mut Option<u64>,
    sender: &EventSender,
) -> Result<(), mpsc::error::SendError<Result<Event, Infallible>>> {
    for (number, session) in sessions {
        match view_for(context, caller, &session).await {
            Ok(Some(view)) => {
                sender.send(Ok(Event::default().event("session").id(number.to_string()).data(view))).await?;
            }
            Ok(None) => {}
            Err(error) => {
                // The stream stays open; the session is sent after its next change, or after a `reset`.
                tracing::warn!(outcome = "events_delayed", session = %session, %error, "a session of a list was not read");
                error.log_fault();
            }
        }
        *after = Some(number);
    }
    Ok(())
}

/// The session's view as JSON; `None`: the caller may not see it, or it was erased.
async fn view_for(context: &SessionContext, caller: &Caller, session: &SessionId) -> Result<Option<String>, ApiError> {
    let Some(row) = context.store.get_session(session).await? else { return Ok(None) };
    if permits(caller, Action::ReadSession, (&row).into()).is_err() {
        return Ok(None);
    }
    let view = view::to_session_view(context, &row).await?;
    Ok(Some(serde_json::to_string(&view).map_err(ApiError::internal)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_store::CallerKind;

    fn caller(role: Role, number: u8) -> Caller {
        let id = CallerId::from_parts(1, [number; 10]);
        let (kind, scopes) = (CallerKind::BrowserCookie, role.scopes());
        Caller { account: id.clone(), id, kind, role, name: "Ada".to_owned(), scopes }
    }

    #[test]
    fn start_pages_of_people_leave_streams_to_operators() {
        let streams = SessionListStreams::default();
        let people = (1..=u8::MAX).map(|number| caller(Role::User, number));
        let open: Vec<_> = people.map_while(|person| streams.take_place(&person).ok()).collect();
        assert_eq!(open.len(), LIST_STREAMS_MAX - LIST_STREAMS_OF_OPERATORS_MIN);
        let operator = caller(Role::Operator, 0);
        let own: Vec<_> = std::iter::from_fn(|| streams.take_place(&operator).ok()).collect();
        assert_eq!(own.len(), LIST_STREAMS_OF_CALLER_MAX);
        drop(open);
        assert!(streams.take_place(&caller(Role::User, 1)).is_ok(), "a closed stream leaves its place");
    }
}
