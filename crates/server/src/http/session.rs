//! Sessions: read one, timeline (JSON or server-sent events), heartbeat, cancel, restart, credentials.

use super::{
    error_response::ErrorResponse,
    event_streams::{EventStreams, mark_as_event_stream, with_retry},
    extract::{OwnedSession, Query},
    start_session::session_path,
};
use crate::auth::Auth;
use anteroom_controller::{
    api_error::ApiError,
    credentials,
    session::context::SessionContext,
    session::{
        channels::require_active, end, host_facts::Audience, keep_open, lifecycle::DeliveryState, timeline, view,
    },
};
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{
    EndReason, Problem, ProblemBody,
    api::{CredentialList, SessionView, Timeline},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use serde::Deserialize;
use std::time::Duration;

/// Timeline entries in one answer.
pub(super) const ENTRIES_MAX: u32 = 1_000;

/// Returns the session's current state.
#[utoipa::path(get, operation_id = "get_session", path = "/api/auth/session/{id}", params(("id" = String, Path)), responses(
    (status = 200, description = "The session.", body = SessionView),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn get_session(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<Json<SessionView>, ErrorResponse> {
    Ok(Json(view::to_session_view(&context, &owned.row).await?))
}

/// Query of `GET …/events`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct EventsQuery {
    /// Return only entries with a greater number.
    #[serde(default)]
    after: u64,
}

/// Returns the session's timeline, at most 1000 entries.
///
/// With `Accept: text/event-stream` the response is a stream of server-sent events until the session has ended: `session` (a
/// `SessionView`, on every change), `timeline` (a `TimelineEntry`; its number is the event id) and, for callers that may list the session's
/// helpers, `helpers` (a `HelperList`, when one is invited, comes, leaves or is ended). `Last-Event-ID` resumes the stream.
/// If the caller is revoked or expires, the stream ends with `closed` (a `ProblemBody`).
/// 429: the caller or the session has too many streams.
#[utoipa::path(get, operation_id = "get_session_events", path = "/api/auth/session/{id}/events", params(("id" = String, Path), EventsQuery), responses(
    (status = 200, description = "The timeline entries, or the event stream.", body = Timeline),
    (status = 204, description = "The session has ended, and the client that resumes the stream has all of it."),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
    (status = 429, description = "The caller or the session has too many event streams.", body = ProblemBody),
))]
pub(super) async fn list_or_watch_events(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    State(streams): State<EventStreams>,
    owned: OwnedSession,
    Query(EventsQuery { after }): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let resumed_after = text(header::HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok());
    let after = resumed_after.unwrap_or(after);
    if text(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream")) {
        if resumed_after.is_some() && has_seen_the_end(&context, &owned.row, after).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let live_caller = auth.live_callers.connect(&owned.caller.id);
        let stream = streams.stream(&context, &owned.row.id, &owned.caller, live_caller, after)?;
        let alive = KeepAlive::new().interval(Duration::from_millis(context.limits.tunnel.ping_every_ms));
        let mut response = Sse::new(with_retry(stream)).keep_alive(alive).into_response();
        mark_as_event_stream(response.headers_mut());
        return Ok(response);
    }
    let rows = context.store.list_timeline(&owned.row.id, after, ENTRIES_MAX).await?;
    let audience = Audience::of(&owned.caller);
    let entries = rows.into_iter().map(|row| timeline::to_timeline_entry(row, audience)).collect();
    Ok(Json(Timeline { entries }).into_response())
}

/// Whether a client that resumes a stream has every entry of an ended session. An `EventSource` that gets 204 does not connect again.
async fn has_seen_the_end(context: &SessionContext, row: &SessionRow, after: u64) -> Result<bool, ApiError> {
    Ok(row.end().is_some() && context.store.list_timeline(&row.id, after, 1).await?.is_empty())
}

/// Resets the idle timeout of the session. 410: the session has ended.
#[utoipa::path(post, operation_id = "send_heartbeat", path = "/api/auth/session/{id}/heartbeat", params(("id" = String, Path)), responses(
    (status = 200, description = "The session.", body = SessionView),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn record_heartbeat(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<Json<SessionView>, ErrorResponse> {
    let row = keep_open::keep_open(&context, &owned.row.id).await?;
    Ok(Json(view::to_session_view(&context, &row).await?))
}

/// Cancels the session and removes its machine. Idempotent.
#[utoipa::path(post, operation_id = "cancel_session", path = "/api/auth/session/{id}/cancel", params(("id" = String, Path)), responses(
    (status = 200, description = "The session, ended.", body = SessionView),
))]
pub(super) async fn cancel_session(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<Json<SessionView>, ErrorResponse> {
    let by = match owned.caller.role {
        Role::Viewer(_) | Role::Helper(_) => "by the person",
        Role::Backend | Role::User => "by its owner",
        Role::Operator | Role::Auditor => "by an operator",
    };
    let row = end::end_session(&context, &owned.row.id, EndReason::Cancelled, by).await?;
    Ok(Json(view::to_session_view(&context, &row).await?))
}

/// Replaces the session's machine; the sign-in starts again.
///
/// 409: no restart is left, a credential delivery is in progress, or the machine is external. 410: the session has ended.
#[utoipa::path(post, operation_id = "restart_machine", path = "/api/auth/session/{id}/restart", params(("id" = String, Path)), responses(
    (status = 202, description = "The restart was accepted.", body = SessionView),
    (status = 409, description = "No restart is left, a delivery is in progress, or the machine is external.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn restart_session(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<impl IntoResponse, ErrorResponse> {
    let (row, session) = require_active(&context, &owned.row.id).await?;
    if row.external_machine.is_some() {
        return Err(ApiError::new(Problem::ExternalDesktopOnly, "an external machine cannot be replaced").into());
    }
    if row.generation > context.config().sessions.restarts_max {
        let detail = format!("this is machine {} of {}", row.generation, context.config().sessions.restarts_max + 1);
        return Err(ApiError::new(Problem::NoRestartLeft, detail).into());
    }
    if session.state().delivery() != DeliveryState::None {
        return Err(Problem::DeliveryInProgress.into());
    }
    session.restart_requested.notify_one();
    let location = [(header::LOCATION, session_path(&row))];
    Ok((StatusCode::ACCEPTED, location, Json(view::to_session_view(&context, &row).await?)))
}

/// Returns the metadata of the session's stored credential, without its content; an empty list if there is none. Also available after
/// the session has ended.
#[utoipa::path(get, operation_id = "get_session_credentials", path = "/api/auth/session/{id}/credentials", params(("id" = String, Path)), responses(
    (status = 200, description = "At most one credential.", body = CredentialList),
))]
pub(super) async fn list_session_credentials(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<Json<CredentialList>, ErrorResponse> {
    let found = context.store.get_credential_of_session(&owned.row.id).await?;
    let stored = found.iter().filter(|row| row.deleted_at_ms.is_none());
    let credentials: Vec<_> = stored.map(|row| credentials::to_credential_meta(&context, row)).collect();
    Ok(Json(CredentialList { total: Some(credentials.len() as u64), credentials, next_cursor: None }))
}
