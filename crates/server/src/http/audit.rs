//! `GET /api/audit`, its event stream, and `GET /api/audit/verification`.

use super::{
    error_response::ErrorResponse,
    event_streams::{FileStreams, mark_as_event_stream, with_retry},
    extract::{AuthenticatedCaller, Query},
};
use crate::auth::Auth;
use anteroom_audit::{Filter, Follower, Order, Record, Verification, list_records};
use anteroom_controller::{
    api_error::ApiError,
    audit::{mac_keys, note_detail},
    session::context::SessionContext,
};
use anteroom_wire::ProblemBody;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Records of a page if the request names no number.
const DEFAULT_LIMIT: usize = 100;
/// Records of a page at most.
pub(super) const LIMIT_MAX: usize = 1_000;

/// Query of `GET /api/audit`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Only records with a greater number, the oldest first.
    after: Option<u64>,
    /// Only records with a smaller number, the newest first. Without `after` and `before`: the newest records.
    before: Option<u64>,
    /// Only those of this caller: its id or its name.
    actor: Option<String>,
    /// Only this action; with a trailing dot all actions that begin so: `credential.`.
    action: Option<String>,
    /// Only those about this session.
    session: Option<String>,
    /// Only those that this token or browser caused or that are about it: its id.
    caller: Option<String>,
    /// Only those from this address.
    peer: Option<String>,
    /// Only records of this time or later, milliseconds since 1970.
    since_ms: Option<u64>,
    /// Only records before this time, milliseconds since 1970.
    until_ms: Option<u64>,
    /// `next_cursor` of the page before, whose other parameters are repeated.
    cursor: Option<u64>,
    /// Records at most, 1 to 1000; default 100.
    limit: Option<usize>,
}

/// A page of the audit trail.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    /// The records: with `after` the oldest first, otherwise the newest first.
    pub records: Vec<Record>,
    /// The value of `cursor` for the next page; `null`: there are no more records.
    #[schema(required)]
    pub next_cursor: Option<u64>,
}

/// Returns records of the audit trail. Needs the scope `audit`.
#[utoipa::path(get, operation_id = "list_audit_records", path = "/api/audit", params(AuditQuery), responses(
    (status = 200, description = "The records.", body = AuditPage),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller has not the scope `audit`.", body = ProblemBody),
))]
pub(super) async fn list_audit_records(
    State(context): State<SessionContext>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, ErrorResponse> {
    let order = if query.after.is_some() { Order::Oldest } else { Order::Newest };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, LIMIT_MAX);
    let AuditQuery { mut after, mut before, actor, action, session, caller, peer, since_ms, until_ms, .. } = query;
    match order {
        Order::Oldest => after = query.cursor.or(after),
        Order::Newest => before = query.cursor.or(before),
    }
    let filter = Filter { after: after.unwrap_or(0), before, actor, action, session, caller, peer, since_ms, until_ms };
    let dir = context.audit.dir().to_owned();
    let records = tokio::task::spawn_blocking(move || list_records(&dir, &filter, order, limit + 1)).await;
    let mut records = records.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let is_last = records.len() <= limit;
    records.truncate(limit);
    let next_cursor = records.last().filter(|_| !is_last).map(|record| record.seq);
    Ok(Json(AuditPage { records, next_cursor }))
}

/// Which records are followed.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FollowQuery {
    /// Only records with a greater number; default: those that are written from now on.
    after: Option<u64>,
    /// Only those of this caller: its id or its name.
    actor: Option<String>,
    /// Only this action; with a trailing dot all actions that begin so: `credential.`.
    action: Option<String>,
    /// Only those about this session.
    session: Option<String>,
    /// Only those from this address.
    peer: Option<String>,
    /// Only records of this time or later, milliseconds since 1970.
    since_ms: Option<u64>,
}

/// Follows the audit trail as server-sent events.
///
/// `live` is sent at once, then `record` (an `AuditRecord`) for each record; this reading is one itself. If the caller is revoked or expires, the stream ends with
/// `closed` (a `ProblemBody`). Needs the scope `audit`.
#[utoipa::path(get, operation_id = "watch_audit_records", path = "/api/audit/events", params(FollowQuery), responses(
    (status = 200, description = "The event stream.", content_type = "text/event-stream"),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller has not the scope `audit`.", body = ProblemBody),
    (status = 429, description = "There are too many such streams.", body = ProblemBody),
))]
pub(super) async fn watch_audit_records(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    State(streams): State<FileStreams>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Query(query): Query<FollowQuery>,
) -> Result<Response, ErrorResponse> {
    let FollowQuery { after, actor, action, session, peer, since_ms } = query;
    let dir = context.audit.dir().to_owned();
    let after = match after {
        Some(after) => after,
        None => newest_number(dir.clone()).await?,
    };
    let mut follower =
        Follower::new(&dir, Filter { after, actor, action, session, peer, since_ms, ..Filter::default() });
    let live_caller = auth.live_callers.connect(&caller.id);
    let stream = streams.stream(&context, live_caller, "record", Vec::new(), move |found| {
        let push = |record: Record| serde_json::to_string(&record).is_ok_and(|line| found.push(line));
        follower.read_new(push).map(|_| ())
    })?;
    let alive = KeepAlive::new().interval(Duration::from_millis(context.limits.tunnel.ping_every_ms));
    let mut response = Sse::new(with_retry(stream)).keep_alive(alive).into_response();
    mark_as_event_stream(response.headers_mut());
    Ok(response)
}

/// The number of the newest record; 0: there is none.
async fn newest_number(dir: std::path::PathBuf) -> Result<u64, ApiError> {
    let read = tokio::task::spawn_blocking(move || list_records(&dir, &Filter::default(), Order::Newest, 1)).await;
    let records = read.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    Ok(records.first().map_or(0, |record| record.seq))
}

/// Verifies the whole audit trail: hashes, MACs, order, files and heads. Names the place of everything that was changed. Needs the scope `audit`.
#[utoipa::path(get, operation_id = "verify_audit_trail", path = "/api/audit/verification", responses(
    (status = 200, description = "The result.", body = Verification),
    (status = 403, description = "The caller has not the scope `audit`.", body = ProblemBody),
))]
pub(super) async fn verify_audit_trail(
    State(context): State<SessionContext>,
) -> Result<Json<Verification>, ErrorResponse> {
    let verification = context.audit.verify(&context.config(), &mac_keys(&context.vault)).await?;
    note_detail("verified", if verification.intact { "intact" } else { "changed" });
    Ok(Json(verification))
}
