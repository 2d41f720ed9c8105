//! A session's feed: reads the database once for each change and publishes what is new to all streams of the session.

use anteroom_controller::{
    api_error::ApiError,
    session::{
        context::SessionContext,
        helpers::{HelperAddresses, list_helpers},
        host_facts::Audience,
        timeline, view,
    },
};
use anteroom_wire::{Problem, SessionId};
use axum::response::sse::Event;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// Time between two reads of a session that changes all the time, milliseconds.
pub(crate) const READ_MS_MIN: u64 = 50;
/// The newest timeline entries that a feed keeps. A stream that is further behind reads the database.
const ENTRIES_KEPT_MAX: usize = 64;
/// Timeline entries that are read at once.
const ENTRIES_MAX: u32 = 1_000;

/// What a feed has read last. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Update {
    /// The session's view as JSON; empty before the first read.
    view: Arc<str>,
    /// The newest entries, the oldest first.
    entries: Arc<VecDeque<Entry>>,
    /// The number of the newest entry.
    last: u64,
    helpers: Helpers,
}

/// The session's helpers, as they were read last.
#[derive(Debug, Clone, Default)]
struct Helpers {
    /// The list as JSON; empty before the first read.
    list: Arc<str>,
    /// The changes before this read; `None`: it was not read yet.
    changes: Option<u64>,
}

/// The events of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Events {
    /// Whether the caller may list the session's helpers.
    pub(super) with_helpers: bool,
    /// Who reads the entries.
    pub(super) audience: Audience,
}

#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    /// As JSON.
    for_operators: Arc<str>,
    for_others: Arc<str>,
}

/// Follows a session until it has ended, or until `can_end` when it has no stream.
pub(super) async fn follow(
    context: &SessionContext,
    id: &SessionId,
    after: u64,
    updates: &watch::Sender<Update>,
    can_end: impl Fn() -> bool,
) {
    let mut latest = Update { last: find_start(context, id, after).await, ..Update::default() };
    let mut retries = 0;
    loop {
        let session = context.sessions.get(id);
        let mut changes = session.as_ref().map(|session| session.subscribe_state());
        drop(session);
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        let next_read = Instant::now() + Duration::from_millis(READ_MS_MIN);
        let ended = match read(context, id, &mut latest).await {
            Ok(ended) => {
                updates.send_replace(latest.clone());
                ended
            }
            Err(error) => {
                // The streams stay open; the next attempt may succeed.
                tracing::warn!(outcome = "events_delayed", session = %id, %error, "session events not read");
                error.log_fault();
                false
            }
        };
        if ended && changes.is_none() {
            return;
        }
        let changed = async {
            match &mut changes {
                // An error means that the supervisor has ended: read once more without it.
                Some(changes) => _ = changes.changed().await,
                // The next reconciliation resumes the session.
                None => {
                    retries += 1;
                    sleep(Duration::from_millis(50 * retries.min(20))).await;
                }
            }
            sleep_until(next_read).await;
        };
        tokio::select! {
            () = changed => {}
            () = updates.closed() => if can_end() { return },
            () = context.stop.cancelled() => return,
        }
    }
}

/// The number of the entry that a feed begins after: the first stream's, if there is such an entry, or 0.
async fn find_start(context: &SessionContext, id: &SessionId, after: u64) -> u64 {
    let Some(before) = after.checked_sub(1) else { return 0 };
    let found = context.store.list_timeline(id, before, 1).await;
    if found.is_ok_and(|found| found.first().is_some_and(|entry| entry.number == after)) { after } else { 0 }
}

/// Reads the view and the new entries. Returns whether the session has ended.
async fn read(context: &SessionContext, id: &SessionId, latest: &mut Update) -> Result<bool, ApiError> {
    // Before the rows: a change in between is read again.
    let helper_changes = context.sessions.get(id).map_or(0, |session| session.state().helpers.changes());
    let row = context.store.get_session(id).await?.ok_or(Problem::UnknownSession)?;
    let view = view::to_session_view(context, &row).await?;
    let view = serde_json::to_string(&view).map_err(ApiError::internal)?;
    if *latest.view != *view {
        latest.view = view.into();
    }
    if latest.helpers.changes != Some(helper_changes) {
        let list = list_helpers(context, id, HelperAddresses::Hidden).await?;
        let list = serde_json::to_string(&list).map_err(ApiError::internal)?;
        latest.helpers = Helpers { list: list.into(), changes: Some(helper_changes) };
    }
    loop {
        let new = read_entries(context, id, latest.last).await?;
        let Some(last) = new.last() else { break };
        latest.last = last.number;
        let is_all = new.len() < ENTRIES_MAX as usize;
        let entries = Arc::make_mut(&mut latest.entries);
        entries.extend(new);
        entries.drain(..entries.len().saturating_sub(ENTRIES_KEPT_MAX));
        if is_all {
            break;
        }
    }
    Ok(!row.is_active())
}

async fn read_entries(context: &SessionContext, id: &SessionId, after: u64) -> Result<Vec<Entry>, ApiError> {
    let rows = context.store.list_timeline(id, after, ENTRIES_MAX).await?;
    let entries = rows.into_iter().map(|row| {
        let number = row.number;
        let json = |audience| {
            let entry = timeline::to_timeline_entry(row.clone(), audience);
            serde_json::to_string(&entry).map(Into::into).map_err(ApiError::internal)
        };
        Ok(Entry { number, for_operators: json(Audience::Operators)?, for_others: json(Audience::Others)? })
    });
    entries.collect()
}

/// Sends what is new to one stream until the feed has ended or the client has disconnected.
pub(super) async fn send_updates(
    context: &SessionContext,
    id: &SessionId,
    mut updates: watch::Receiver<Update>,
    events: Events,
    mut after: u64,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) {
    let (mut last_view, mut last_helpers): (Arc<str>, Arc<str>) = (Arc::default(), Arc::default());
    updates.mark_changed();
    while updates.changed().await.is_ok() {
        let update = updates.borrow_and_update().clone();
        if let Err(error) = send_entries(context, id, &update, events.audience, &mut after, sender).await {
            tracing::warn!(outcome = "events_delayed", session = %id, %error, "session events not read");
            error.log_fault();
            continue;
        }
        if update.view != last_view {
            let _ = sender.send(Ok(Event::default().event("session").data(&*update.view))).await;
            last_view = update.view;
        }
        if events.with_helpers && update.helpers.list != last_helpers {
            let _ = sender.send(Ok(Event::default().event("helpers").data(&*update.helpers.list))).await;
            last_helpers = update.helpers.list;
        }
    }
}

/// Sends the entries up to the update's: those that the feed no longer has are read from the database.
async fn send_entries(
    context: &SessionContext,
    id: &SessionId,
    update: &Update,
    audience: Audience,
    after: &mut u64,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) -> Result<(), ApiError> {
    while *after < update.last && update.entries.front().is_none_or(|oldest| *after + 1 < oldest.number) {
        let older = read_entries(context, id, *after).await?;
        if older.is_empty() {
            break;
        }
        for entry in older {
            send_entry(&entry, audience, after, sender).await;
        }
    }
    for entry in update.entries.iter() {
        send_entry(entry, audience, after, sender).await;
    }
    Ok(())
}

async fn send_entry(
    entry: &Entry,
    audience: Audience,
    after: &mut u64,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) {
    if entry.number > *after {
        let json = match audience {
            Audience::Operators => &entry.for_operators,
            Audience::Others => &entry.for_others,
        };
        let event = Event::default().event("timeline").id(entry.number.to_string()).data(&**json);
        let _ = sender.send(Ok(event)).await;
        *after = entry.number;
    }
}
