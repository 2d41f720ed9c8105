//! `GET /api/auth/session/{id}/log`: the log lines of a session, for operators.

use super::{
    error_response::ErrorResponse,
    extract::{OwnedSession, Query},
};
use anteroom_controller::{
    api_error::ApiError,
    log::read::{LogFilter, last_log_lines},
    session::context::SessionContext,
};
use anteroom_wire::ProblemBody;
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

/// Lines if the request names no number.
pub(super) const LINES_DEFAULT: usize = 200;
/// Lines at most.
pub(super) const LINES_MAX: usize = 2_000;

/// Query of `GET …/log`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogQuery {
    /// Lines at most, the newest ones: 1 to 2000; default 200.
    lines: Option<usize>,
}

/// Log lines.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct LogLines {
    /// The oldest first, each an object: `timestamp`, `level`, `outcome`, `message` and others.
    #[schema(value_type = Vec<Object>)]
    pub lines: Vec<serde_json::Value>,
}

/// Returns the newest log lines about the session and its machines, as `anteroom logs SESSION` prints them. Operators only.
#[utoipa::path(get, operation_id = "get_session_log", path = "/api/auth/session/{id}/log", params(("id" = String, Path), LogQuery), responses(
    (status = 200, description = "The lines.", body = LogLines),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn get_session_log(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Query(query): Query<LogQuery>,
) -> Result<Json<LogLines>, ErrorResponse> {
    let path = context.config().log_file();
    let mut filter = LogFilter {
        session: Some(owned.row.id.clone()),
        machines: owned.row.machine.iter().cloned().collect(),
        least_level: None,
    };
    let lines_max = query.lines.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
    let read = tokio::task::spawn_blocking(move || last_log_lines(&path, &mut filter, lines_max)).await;
    let lines = read.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    Ok(Json(LogLines { lines: lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect() }))
}
