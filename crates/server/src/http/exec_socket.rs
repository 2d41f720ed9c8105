//! `WS …/exec`: a command in a session's machine, with its own streams.

use super::{
    error_response::ErrorResponse,
    extract::OwnedSession,
    viewer_sockets::{answer, malformed_handshake},
};
use crate::{
    app::App,
    auth::{self, browsers},
};
use anteroom_audit::{Action as Deed, Subject};
use anteroom_controller::{
    api_error::ApiError,
    session::{
        active_session::{ActiveSession, EXECS_MAX},
        channels::{reach_exec, require_active},
        start::for_use::check_argv,
    },
};
use anteroom_machine::ByteStream;
use anteroom_store::SessionRow;
use anteroom_tunnel::{ExecReport, ExecTunnel, accept_exec_websocket};
use anteroom_wire::{Problem, ProblemBody, agent::UsePurpose, exec::ExecStart};
use axum::{
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::HeaderMap,
    response::Response,
};
use std::sync::Arc;

/// Runs a command in the machine of a session that uses a credential, and exchanges its standard streams over this WebSocket.
///
/// The subprotocol is `v1.exec.anteroom`; docs/exec.md describes its messages. The session must have been started with the purpose `exec`.
/// Without a command in the first message it is the session's own, which was started with `attached`; it runs once, and the session ends
/// with it.
#[utoipa::path(get, operation_id = "exec", path = "/api/auth/session/{id}/exec", params(("id" = String, Path)), responses(
    (status = 101, description = "The WebSocket is open. The first message of the client is text, the start; all others are binary."),
    (status = 400, description = "The request is no WebSocket handshake.", body = ProblemBody),
    (status = 403, description = "The caller may not use this session, or the session runs no command with a credential.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
    (status = 409, description = "The session is being resumed.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many commands at once in this session, or too many requests in a short time.", body = ProblemBody),
))]
pub(super) async fn open_exec_socket(
    State(app): State<App>,
    owned: OwnedSession,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ErrorResponse> {
    let (row, session) = admit(&app, &owned, &headers).await?;
    let Ok(permit) = Arc::clone(&session.exec_permits).try_acquire_owned() else {
        return Err(ApiError::new(Problem::TooManyViewers, format!("at most {EXECS_MAX} commands at once")).into());
    };
    let upgrade = upgrade.map_err(|rejection| malformed_handshake(&headers, &rejection))?;
    record_attempt(&app, &row).await?;
    let live_caller = app.auth.live_callers.connect(&owned.caller.id);
    let tasks = app.tasks.clone();
    Ok(accept_exec_websocket(upgrade, &tasks, move |socket| async move {
        let _permit = permit;
        let closed_by = session.state().machine_close_signal.or(live_caller.signal());
        let tunnel = ExecTunnel::new(app.limits.tunnel.clone(), closed_by, Arc::clone(&session.activity));
        let report = tunnel.run(socket, |start| connect(&app, &session, start)).await;
        log_end(&session, &report);
    }))
}

/// The active session, after checking what the use of a credential requires beyond the route's action.
async fn admit(
    app: &App,
    owned: &OwnedSession,
    headers: &HeaderMap,
) -> Result<(SessionRow, Arc<ActiveSession>), ApiError> {
    auth::require_own_origin_or_token(&app.auth, headers, Some(&owned.caller))?;
    let runs_commands = owned.row.purpose.credential_use().is_some_and(|used| used.purpose == UsePurpose::Exec);
    if !runs_commands {
        return Err(Problem::NoCommands.into());
    }
    // A command can print the credential.
    browsers::require_confirmation(&app.auth, &owned.caller).await?;
    require_active(app, &owned.row.id).await
}

async fn record_attempt(app: &App, row: &SessionRow) -> Result<(), ApiError> {
    let subject = Subject {
        session: Some(row.id.to_string()),
        credential: row.purpose.credential_use().map(|used| used.credential.to_string()),
        user: row.user_id.clone(),
        ..Subject::default()
    };
    app.audit.record_before(Deed::CredentialUse, subject).await
}

async fn connect(app: &App, session: &ActiveSession, start: ExecStart) -> Result<ByteStream, ProblemBody> {
    if !start.argv.is_empty() {
        check_argv(&start.argv).map_err(answer)?;
    }
    reach_exec(app, session, &start).await.map_err(answer)
}

fn log_end(session: &ActiveSession, report: &ExecReport) {
    let end = report.end.as_ref().map(|end| format!("{end:?}"));
    tracing::info!(
        outcome = "exec_ended", session = %session.id, exit_code = report.exit_code, bytes_up = report.bytes_up,
        bytes_down = report.bytes_down, duration_ms = report.duration_ms, end,
        "exec channel closed"
    );
}
