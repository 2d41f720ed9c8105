//! One session: read, timeline (JSON or server-sent events), heartbeat, cancel, restart, credentials; and the list.

use super::body::{OwnedSession, Query};
use crate::{
    app::App,
    auth::Caller,
    credentials,
    api_error::ApiError,
    session::{
        channels::living,
        end,
        lifecycle::{Delivery, EndKind},
        timeline, view,
    },
};
use anteroom_store::{Role, SessionRow, OwnerFilter};
use anteroom_wire::{
    Problem, ProblemBody, SessionId,
    api::{CredentialList, SessionList, SessionView, Timeline},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::Stream;
use serde::Deserialize;
use std::{convert::Infallible, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const ENTRIES_MAX: u32 = 1_000;
const SESSIONS_MAX: u32 = 100;

/// The session as it is now.
#[utoipa::path(get, path = "/api/auth/session/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = SessionView), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn read(State(app): State<App>, mine: OwnedSession) -> Result<Json<SessionView>, ApiError> {
    Ok(Json(view::view(&app, &mine.row).await?))
}

/// Where to begin.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct After {
    /// Only entries after this number.
    #[serde(default)]
    after: u64,
}

/// The timeline: JSON, or server-sent events (`session`: a `SessionView` on every change; `timeline`: a `TimelineEntry`,
/// its number as the event's id) when `Accept: text/event-stream` is asked for. `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/api/auth/session/{id}/events", params(("id" = String, Path), After), responses(
    (status = 200, body = Timeline), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn events(
    State(app): State<App>,
    mine: OwnedSession,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let after = text(header::HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok()).unwrap_or(after);
    if text(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream")) {
        let stream = stream(app.clone(), mine.row.id, after);
        let alive = KeepAlive::new().interval(Duration::from_millis(app.config.tunnel.ping_every_ms));
        return Ok(Sse::new(stream).keep_alive(alive).into_response());
    }
    let rows = app.store.timeline(&mine.row.id, after, ENTRIES_MAX).await?;
    let entries = rows.into_iter().map(timeline::timeline_entry).collect();
    Ok(Json(Timeline { entries }).into_response())
}

/// Follows a session until it has ended and everything was told.
fn stream(app: App, id: SessionId, after: u64) -> impl Stream<Item = Result<Event, Infallible>> {
    let (sender, receiver) = mpsc::channel(16);
    app.clone().tasks.spawn(async move {
        tokio::select! {
            () = follow(&app, &id, after, &sender) => {}
            () = sender.closed() => {}
            () = app.stop.cancelled() => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn follow(app: &App, id: &SessionId, mut after: u64, sender: &mpsc::Sender<Result<Event, Infallible>>) {
    let mut last = String::new();
    let mut misses = 0;
    loop {
        let live = app.sessions.get(id);
        let mut changes = live.as_ref().map(|live| live.watch());
        drop(live);
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        let ended = match tell(app, id, &mut after, &mut last, sender).await {
            Ok(ended) => ended,
            Err(refusal) => {
                // The page keeps its last picture and the connection; the next look may succeed.
                tracing::warn!(outcome = "events_delayed", session = %id, %refusal, "a session's events could not be read");
                false
            }
        };
        match &mut changes {
            // An error means that the owner is gone: one more look, without it.
            Some(changes) => {
                let _ = changes.changed().await;
            }
            None if ended => return,
            // Being resumed by the sweep.
            None => {
                misses += 1;
                tokio::time::sleep(Duration::from_millis(50 * misses.min(20))).await;
            }
        }
    }
}

/// Sends what is new; whether the session has ended.
async fn tell(
    app: &App,
    id: &SessionId,
    after: &mut u64,
    last: &mut String,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) -> Result<bool, ApiError> {
    let row = app.store.session(id).await?.ok_or(Problem::UnknownSession)?;
    let view = view::view(app, &row).await?;
    let text = serde_json::to_string(&view).map_err(|_| Problem::Internal)?;
    for entry in app.store.timeline(id, *after, ENTRIES_MAX).await? {
        let number = entry.number;
        let data = serde_json::to_string(&timeline::timeline_entry(entry)).map_err(|_| Problem::Internal)?;
        let _ = sender.send(Ok(Event::default().event("timeline").id(number.to_string()).data(data))).await;
        *after = number;
    }
    if text != *last {
        let _ = sender.send(Ok(Event::default().event("session").data(&text))).await;
        *last = text;
    }
    Ok(!row.is_active())
}

/// Says that somebody is there.
#[utoipa::path(post, path = "/api/auth/session/{id}/heartbeat", params(("id" = String, Path)), responses(
    (status = 200, body = SessionView), (status = 410, body = ProblemBody)))]
pub(super) async fn heartbeat(State(app): State<App>, mine: OwnedSession) -> Result<Json<SessionView>, ApiError> {
    let (row, live) = living(&app, &mine.row.id).await?;
    live.activity.touch();
    Ok(Json(view::view(&app, &row).await?))
}

/// Ends the session. Doing it again changes nothing.
#[utoipa::path(post, path = "/api/auth/session/{id}/cancel", params(("id" = String, Path)), responses(
    (status = 200, body = SessionView)))]
pub(super) async fn cancel(State(app): State<App>, mine: OwnedSession) -> Result<Json<SessionView>, ApiError> {
    let row = end::end(&app, &mine.row.id, EndKind::Cancelled, Problem::Cancelled, "").await?;
    Ok(Json(view::view(&app, &row).await?))
}

/// Asks for another machine; the sign-in starts again.
#[utoipa::path(post, path = "/api/auth/session/{id}/restart", params(("id" = String, Path)), responses(
    (status = 202, body = SessionView), (status = 409, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn restart(State(app): State<App>, mine: OwnedSession) -> Result<impl IntoResponse, ApiError> {
    let (row, live) = living(&app, &mine.row.id).await?;
    if row.external_machine.is_some() {
        return Err(ApiError::new(Problem::ExternalDesktopOnly, "an external machine is not replaced by another"));
    }
    if row.generation > app.config.sessions.restarts_max {
        let detail = format!("this is machine {} of {}", row.generation, app.config.sessions.restarts_max + 1);
        return Err(ApiError::new(Problem::NoRestartLeft, detail));
    }
    if live.state().delivery() != Delivery::None {
        return Err(Problem::DeliveryInProgress.into());
    }
    live.restart_requested.notify_one();
    Ok((StatusCode::ACCEPTED, Json(view::view(&app, &row).await?)))
}

/// The stored credential's facts, never its secret. Answers after the machine is gone.
#[utoipa::path(get, path = "/api/auth/session/{id}/credentials", params(("id" = String, Path)), responses(
    (status = 200, body = CredentialList)))]
pub(super) async fn credentials(State(app): State<App>, mine: OwnedSession) -> Result<Json<CredentialList>, ApiError> {
    let found = app.store.credential_of_session(&mine.row.id).await?;
    let kept = found.iter().filter(|row| row.deleted_at_ms.is_none());
    Ok(Json(CredentialList { credentials: kept.map(|row| credentials::credential_meta(&app, row)).collect() }))
}

/// The caller's sessions, the newest first; a viewer's one.
#[utoipa::path(get, path = "/api/sessions", responses((status = 200, body = SessionList)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<SessionList>, ApiError> {
    let rows: Vec<SessionRow> = match &caller.role {
        Role::Operator => app.store.sessions(OwnerFilter::All, SESSIONS_MAX, None).await?,
        Role::Backend => app.store.sessions(OwnerFilter::Owner(&caller.id), SESSIONS_MAX, None).await?,
        Role::Viewer(session) => app.store.session(session).await?.into_iter().collect(),
    };
    let mut sessions = Vec::with_capacity(rows.len());
    for row in &rows {
        sessions.push(view::view(&app, row).await?);
    }
    Ok(Json(SessionList { sessions }))
}
