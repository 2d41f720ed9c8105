//! The open event streams: how many there may be, and the feeds that they read.

use super::feed::{self, Events, Update};
use crate::auth::LiveCaller;
use anteroom_controller::{
    api_error::ApiError,
    caller::{Action, Caller, Resource, permits},
    session::{context::SessionContext, host_facts::Audience},
};
use anteroom_store::Role;
use anteroom_wire::{CallerId, Problem, SessionId};
use axum::response::sse::Event;
use futures_util::Stream;
use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, convert::Infallible, sync::Arc};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Event streams of one session.
pub(crate) const STREAMS_BY_SESSION_MAX: usize = 32;
/// Event streams of one session that viewers have open; the others are for its backend and for operators.
pub(crate) const STREAMS_OF_VIEWERS_MAX: usize = 24;
/// Event streams of one session that one caller has open.
pub(crate) const STREAMS_BY_CALLER_MAX: usize = 8;
/// Event streams of all sessions that one caller has open.
pub(crate) const STREAMS_OF_CALLER_MAX: usize = 512;
/// Events that wait for one slow client.
const EVENTS_MAX: usize = 16;

/// The open event streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EventStreams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    sessions: HashMap<SessionId, SessionStreams>,
    by_caller: HashMap<CallerId, usize>,
    next_feed: u64,
}

/// The streams of one session; exists while there is one, or the feed's task.
#[derive(Debug)]
struct SessionStreams {
    feed_number: u64,
    feed: watch::Sender<Update>,
    total: usize,
    viewers: usize,
    by_caller: HashMap<CallerId, usize>,
}

/// Counts a stream for as long as it exists.
struct StreamSlot {
    streams: EventStreams,
    session: SessionId,
    feed_number: u64,
    caller: Caller,
}

impl EventStreams {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock()
    }

    /// Opens a stream of the entries after this number, of the session's view, and of its helpers if the caller may list them. If the caller is revoked or expires, its last event
    /// is `closed` with a `ProblemBody`.
    ///
    /// # Errors
    /// There are too many streams of the session or the caller.
    pub(crate) fn stream(
        &self,
        context: &SessionContext,
        session: &SessionId,
        caller: &Caller,
        live_caller: LiveCaller,
        after: u64,
    ) -> Result<impl Stream<Item = Result<Event, Infallible>> + use<>, ApiError> {
        let (slot, updates) = self.subscribe(context, session, caller, after)?;
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let of_helper = matches!(caller.role, Role::Helper(_)).then(|| context.sessions.get(session)).flatten();
        let helper = of_helper.map(|active| active.connect_helper(&caller.id));
        // It was required that the session is the caller's.
        let events = Events {
            with_helpers: permits(caller, Action::ListHelpers, Resource::Server).is_ok(),
            audience: Audience::of(caller),
        };
        let (context, session) = (context.clone(), session.clone());
        context.clone().tasks.spawn(async move {
            // Dropped in this order: the slot, then the receiver. A feed without a receiver has no stream.
            let (_receiver, _slot, _helper) = (updates.clone(), slot, helper);
            tokio::select! {
                () = feed::send_updates(&context, &session, updates, events, after, &sender) => {}
                () = sender.closed() => {}
                cause = live_caller.signal().wait_closed() => {
                    let body = Problem::from(cause).with_detail("");
                    if let Ok(data) = serde_json::to_string(&body) {
                        let _ = sender.send(Ok(Event::default().event("closed").data(data))).await;
                    }
                }
                () = context.stop.cancelled() => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    fn subscribe(
        &self,
        context: &SessionContext,
        session: &SessionId,
        caller: &Caller,
        after: u64,
    ) -> Result<(StreamSlot, watch::Receiver<Update>), ApiError> {
        let mut open = self.open();
        open.require_capacity(session, caller)?;
        let Open { sessions, by_caller, next_feed } = &mut *open;
        let streams = sessions.entry(session.clone()).or_insert_with(|| {
            *next_feed += 1;
            let feed = watch::Sender::new(Update::default());
            let (this, context, session, sender) = (self.clone(), context.clone(), session.clone(), feed.clone());
            context.tasks.clone().spawn(async move {
                feed::follow(&context, &session, after, &sender, || this.remove_unused(&session, &sender)).await;
                this.remove(&session, &sender);
            });
            SessionStreams { feed_number: *next_feed, feed, total: 0, viewers: 0, by_caller: HashMap::new() }
        });
        streams.total += 1;
        streams.viewers += usize::from(is_viewer(caller));
        *streams.by_caller.entry(caller.id.clone()).or_default() += 1;
        *by_caller.entry(caller.id.clone()).or_default() += 1;
        let slot = StreamSlot {
            streams: self.clone(),
            session: session.clone(),
            feed_number: streams.feed_number,
            caller: caller.clone(),
        };
        Ok((slot, streams.feed.subscribe()))
    }

    /// Removes the session if it has no stream. Returns whether its feed can end.
    fn remove_unused(&self, session: &SessionId, feed: &watch::Sender<Update>) -> bool {
        let mut open = self.open();
        match open.sessions.get(session) {
            Some(streams) if streams.feed.same_channel(feed) && streams.total > 0 => false,
            Some(streams) if streams.feed.same_channel(feed) => {
                open.sessions.remove(session);
                true
            }
            Some(_) | None => true,
        }
    }

    /// Removes the session of a feed that has ended: its streams end when they have sent the last update.
    fn remove(&self, session: &SessionId, feed: &watch::Sender<Update>) {
        let mut open = self.open();
        if open.sessions.get(session).is_some_and(|streams| streams.feed.same_channel(feed)) {
            open.sessions.remove(session);
        }
    }
}

impl Open {
    fn require_capacity(&self, session: &SessionId, caller: &Caller) -> Result<(), ApiError> {
        let full = |count: usize, max: usize, what: &str| {
            let detail = format!("{what} has {count} event streams open; the limit is {max}");
            if count >= max { Err(ApiError::new(Problem::TooManyStreams, detail)) } else { Ok(()) }
        };
        if let Some(streams) = self.sessions.get(session) {
            let of_caller = streams.by_caller.get(&caller.id).copied().unwrap_or(0);
            full(of_caller, STREAMS_BY_CALLER_MAX, "this caller, for this session,")?;
            full(streams.total, STREAMS_BY_SESSION_MAX, "this session")?;
            if is_viewer(caller) {
                full(streams.viewers, STREAMS_OF_VIEWERS_MAX, "this session, for its viewers,")?;
            }
        }
        full(self.by_caller.get(&caller.id).copied().unwrap_or(0), STREAMS_OF_CALLER_MAX, "this caller")
    }
}

fn is_viewer(caller: &Caller) -> bool {
    caller.role.session().is_some()
}

/// Lowers a counter and removes it at 0.
fn decrement(counters: &mut HashMap<CallerId, usize>, caller: &CallerId) {
    if let Some(count) = counters.get_mut(caller) {
        *count -= 1;
        if *count == 0 {
            counters.remove(caller);
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        decrement(&mut open.by_caller, &self.caller.id);
        // A session whose feed has ended may have got a new one, which does not count this stream.
        let streams = open.sessions.get_mut(&self.session);
        if let Some(streams) = streams.filter(|streams| streams.feed_number == self.feed_number) {
            streams.total -= 1;
            streams.viewers -= usize::from(is_viewer(&self.caller));
            decrement(&mut streams.by_caller, &self.caller.id);
        }
    }
}
