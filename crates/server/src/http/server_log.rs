//! `GET /api/log` and its event stream: the log of this server, for operators on other hosts.

use super::{
    error_response::ErrorResponse,
    event_streams::{FileStreams, mark_as_event_stream, with_retry},
    extract::{AuthenticatedCaller, Query},
    session_log::{LINES_DEFAULT, LINES_MAX, LogLines},
};
use crate::auth::Auth;
use anteroom_controller::{
    api_error::ApiError,
    log::read::{Level, LogFilter, LogFollower, last_log_lines},
    session::context::SessionContext,
};
use anteroom_wire::{Problem, ProblemBody, SessionId};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use serde::Deserialize;
use std::time::Duration;

/// The lines of one answer together, bytes; the oldest are left out.
pub(super) const LOG_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// Which log lines.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServerLogQuery {
    /// Lines at most, the newest ones: 0 to 2000; default 200.
    lines: Option<usize>,
    /// Only lines of this level or more severe.
    level: Option<LogLevel>,
    /// Only lines of this session and its machines.
    session: Option<SessionId>,
}

impl ServerLogQuery {
    async fn filter(&self, context: &SessionContext) -> Result<LogFilter, ApiError> {
        let least_level = self.level.map(Level::from);
        let Some(session) = self.session.clone() else { return Ok(LogFilter { least_level, ..LogFilter::default() }) };
        let row = context.store.get_session(&session).await?.ok_or(Problem::UnknownSession)?;
        Ok(LogFilter { session: Some(session), machines: row.machine.into_iter().collect(), least_level })
    }
}

/// Reads the newest lines. `filter` then knows the machines that they name.
async fn read_lines(
    context: &SessionContext,
    query: &ServerLogQuery,
    mut filter: LogFilter,
) -> Result<(Vec<String>, LogFilter), ApiError> {
    let (path, lines_max) = (context.config().log_file(), query.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX));
    let read = tokio::task::spawn_blocking(move || {
        let lines = if lines_max == 0 { Vec::new() } else { last_log_lines(&path, &mut filter, lines_max)? };
        Ok::<_, std::io::Error>((within_bytes(lines), filter))
    });
    read.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

/// The last of these lines that have at most [`LOG_BYTES_MAX`] together.
fn within_bytes(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    let kept = lines.iter().rev().take_while(|line| {
        bytes += line.len();
        bytes <= LOG_BYTES_MAX
    });
    let left_out = lines.len() - kept.count();
    lines.drain(..left_out);
    lines
}

/// Returns the newest lines of the server's log, as `anteroom logs` prints them. No line has a secret. Operators only.
#[utoipa::path(get, operation_id = "get_log", path = "/api/log", params(ServerLogQuery), responses(
    (status = 200, description = "The lines.", body = LogLines),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn get_log(
    State(context): State<SessionContext>,
    Query(query): Query<ServerLogQuery>,
) -> Result<Json<LogLines>, ErrorResponse> {
    let filter = query.filter(&context).await?;
    let (lines, _) = read_lines(&context, &query, filter).await?;
    Ok(Json(LogLines { lines: lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect() }))
}

/// Follows the server's log as server-sent events.
///
/// `line` is sent for each of the newest lines, then `live` once, then `line` for each that is written. If the caller is revoked or expires, the stream ends
/// with `closed` (a `ProblemBody`). Operators only.
#[utoipa::path(get, operation_id = "watch_log", path = "/api/log/events", params(ServerLogQuery), responses(
    (status = 200, description = "The event stream.", content_type = "text/event-stream"),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
    (status = 429, description = "There are too many such streams.", body = ProblemBody),
))]
pub(super) async fn watch_log(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    State(streams): State<FileStreams>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Query(query): Query<ServerLogQuery>,
) -> Result<Response, ErrorResponse> {
    let filter = query.filter(&context).await?;
    // Opened before the existing lines are read, so that no line is lost in between.
    let mut follower = LogFollower::open_at_end(&context.config().log_file()).map_err(ApiError::internal)?;
    let (first, mut filter) = read_lines(&context, &query, filter).await?;
    let live_caller = auth.live_callers.connect(&caller.id);
    let stream = streams.stream(&context, live_caller, "line", first, move |found| {
        follower.read_new_lines(&mut filter, |line| found.push(line.to_owned())).map(|_| ())
    })?;
    let alive = KeepAlive::new().interval(Duration::from_millis(context.limits.tunnel.ping_every_ms));
    let mut response = Sse::new(with_retry(stream)).keep_alive(alive).into_response();
    mark_as_event_stream(response.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_newest_lines_within_its_bytes() {
        let line = |number: usize| number.to_string().repeat(LOG_BYTES_MAX / 3);
        let kept = within_bytes((0..5).map(line).collect());
        assert_eq!(kept, [line(2), line(3), line(4)]);
        assert!(within_bytes(vec!["x".repeat(LOG_BYTES_MAX + 1)]).is_empty());
        assert_eq!(within_bytes(vec!["a".to_owned()]), ["a"]);
    }
}
