//! `GET /api/sessions` and the event stream of all sessions.

use super::{
    error_response::ErrorResponse,
    event_streams::{SessionListStreams, mark_as_event_stream, with_retry},
    extract::{AuthenticatedCaller, Query},
};
use crate::auth::Auth;
use anteroom_controller::{
    api_error::ApiError,
    caller::Caller,
    overview::verdicts::verdict_of,
    session::{server_context::ServerContext, views_of_hosts},
};
use anteroom_store::{SessionFilter, SessionRow, SessionStates};
use anteroom_wire::{Problem, ProblemBody, ProviderId, SessionId, api::SessionList, diagnosis::Verdict};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// Sessions of a page at most, and if the request names no number.
pub(super) const LIMIT_MAX: u32 = 100;
/// Sessions that one request reads to find those with a verdict.
const READ_MAX: u32 = 1_000;

/// In which states sessions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListedState {
    Active,
    Ended,
    Completed,
    Failed,
    Cancelled,
    Expired,
}

impl From<ListedState> for SessionStates {
    fn from(state: ListedState) -> Self {
        match state {
            ListedState::Active => Self::Active,
            ListedState::Ended => Self::Ended,
            ListedState::Completed => Self::Completed,
            ListedState::Failed => Self::Failed,
            ListedState::Cancelled => Self::Cancelled,
            ListedState::Expired => Self::Expired,
        }
    }
}

/// What a list has in addition to the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Include {
    Verdict,
}

/// Query of `GET /api/sessions`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SessionsQuery {
    /// Only sessions in this state; `ended`: completed, failed, cancelled and expired ones.
    state: Option<ListedState>,
    /// Only sessions of this provider.
    provider: Option<ProviderId>,
    /// Only sessions that were started by this caller: its id or its name.
    caller: Option<String>,
    /// Only sessions for the user whom the caller knows by this id.
    user: Option<String>,
    /// Only sessions with this text in an id, the user's id, the provider, the caller's name, the machine or the reason.
    text: Option<String>,
    /// Only ended sessions with this verdict.
    verdict: Option<Verdict>,
    /// Only sessions that had not ended before this time, milliseconds since 1970.
    since_ms: Option<u64>,
    /// Only sessions that were created before this time, milliseconds since 1970.
    until_ms: Option<u64>,
    /// `next_cursor` of the page before.
    cursor: Option<SessionId>,
    /// Sessions at most, 1 to 100; default 100.
    limit: Option<u32>,
    /// Whether `total` is counted; not with `verdict`.
    count: bool,
    /// `verdict`: also why ended sessions did so.
    include: Option<Include>,
}

impl SessionsQuery {
    fn filter<'a>(&'a self, caller: &'a Caller) -> SessionFilter<'a> {
        let ended = self.verdict.map(|_| SessionStates::Ended);
        SessionFilter {
            owner: caller.owner_filter(),
            states: self.state.map(SessionStates::from).or(ended).unwrap_or_default(),
            provider: self.provider.as_ref(),
            caller: self.caller.as_deref(),
            user_id: self.user.as_deref(),
            text: self.text.as_deref().filter(|text| !text.is_empty()),
            since_ms: self.since_ms,
            until_ms: self.until_ms,
        }
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX)
    }
}

/// Lists the caller's sessions, the newest first, by pages: for an operator all sessions, for a viewer or helper its session, without
/// filters.
#[utoipa::path(get, operation_id = "list_sessions", path = "/api/sessions", params(SessionsQuery), responses(
    (status = 200, description = "The sessions.", body = SessionList),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
))]
pub(super) async fn list_sessions(
    State(server_context): State<ServerContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Query(query): Query<SessionsQuery>,
) -> Result<Json<SessionList>, ErrorResponse> {
    let Page { rows, next_cursor } = match caller.role.session() {
        Some(session) => {
            Page { rows: server_context.store.get_session(session).await?.into_iter().collect(), next_cursor: None }
        }
        None => find_page(&server_context, &caller, &query).await?,
    };
    let total = count(&server_context, &caller, &query).await?;
    let sessions = views_of_hosts::to_session_views(&server_context, &rows).await?;
    let mut list = SessionList { sessions, verdicts: BTreeMap::new(), next_cursor, total };
    for row in &rows {
        if query.include == Some(Include::Verdict)
            && let Some(verdict) = verdict_of(&server_context, row).await?
        {
            list.verdicts.insert(row.id.clone(), verdict);
        }
    }
    Ok(Json(list))
}

/// The number of sessions on all pages, if it is asked for.
async fn count(
    server_context: &ServerContext,
    caller: &Caller,
    query: &SessionsQuery,
) -> Result<Option<u64>, ApiError> {
    if !query.count {
        return Ok(None);
    }
    if query.verdict.is_some() {
        return Err(ApiError::new(
            Problem::Malformed,
            "sessions with a verdict are not counted: leave out count or verdict",
        ));
    }
    if caller.role.session().is_some() {
        return Ok(Some(1));
    }
    Ok(Some(server_context.store.count_sessions(&query.filter(caller)).await?))
}

struct Page {
    rows: Vec<SessionRow>,
    next_cursor: Option<SessionId>,
}

/// The rows of one page, and where the next one begins.
async fn find_page(server_context: &ServerContext, caller: &Caller, query: &SessionsQuery) -> Result<Page, ApiError> {
    let (filter, limit) = (query.filter(caller), query.limit());
    let (mut found, mut before, mut read) = (Vec::new(), query.cursor.clone(), 0);
    loop {
        let rows = server_context.store.find_sessions(&filter, limit, before.as_ref()).await?;
        // A row that is left out makes a page shorter, so that only an empty one is the last.
        let is_last = rows.is_empty();
        read += limit;
        for row in rows {
            before = Some(row.id.clone());
            if has_verdict(server_context, &row, query.verdict).await? {
                found.push(row);
            }
            if found.len() == limit as usize {
                return Ok(Page { rows: found, next_cursor: before });
            }
        }
        if is_last {
            return Ok(Page { rows: found, next_cursor: None });
        }
        if read >= READ_MAX {
            return Ok(Page { rows: found, next_cursor: before });
        }
    }
}

async fn has_verdict(
    server_context: &ServerContext,
    row: &SessionRow,
    verdict: Option<Verdict>,
) -> Result<bool, ApiError> {
    Ok(verdict.is_none() || verdict_of(server_context, row).await? == verdict)
}

/// Follows the caller's sessions as server-sent events.
///
/// `session` (a `SessionView`) is sent when a session begins, changes or ends; `reset`, when changes before it are not known: at the
/// beginning, and if `Last-Event-ID` is of another run of the server or of too long ago. After a `reset` read the list again. If the caller
/// is revoked or expires, the stream ends with `closed` (a `ProblemBody`).
#[utoipa::path(get, operation_id = "watch_sessions", path = "/api/sessions/events", responses(
    (status = 200, description = "The event stream.", content_type = "text/event-stream"),
    (status = 429, description = "The caller has too many event streams.", body = ProblemBody),
))]
pub(super) async fn watch_sessions(
    State(server_context): State<ServerContext>,
    State(auth): State<Auth>,
    State(streams): State<SessionListStreams>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let after = text(header::HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok());
    let live_caller = auth.live_callers.connect(&caller.id);
    let stream = streams.stream(&server_context, caller, live_caller, after)?;
    let alive = KeepAlive::new().interval(Duration::from_millis(server_context.limits.tunnel.ping_every_ms));
    let mut response = Sse::new(with_retry(stream)).keep_alive(alive).into_response();
    mark_as_event_stream(response.headers_mut());
    Ok(response)
}
