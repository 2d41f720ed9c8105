//! `GET /api/agent/session`: resolves an agent token to its session. An external machine is not claimed, so its agent polls this.

use super::error_response::ErrorResponse;
use crate::auth;
use anteroom_controller::{api_error::ApiError, session::server_context::ServerContext};
use anteroom_store::Sha256Hex;
use anteroom_wire::{Problem, ProblemBody, agent::AgentSession};
use axum::{Json, extract::State, http::HeaderMap};

/// Returns the active session of the external machine with this agent token.
///
/// 404: the token is valid and no session uses the machine now; poll again. 401: the token is unknown.
#[utoipa::path(get, operation_id = "get_agent_session", path = "/api/agent/session", responses(
    (status = 200, description = "The session.", body = AgentSession),
    (status = 401, description = "The agent token is missing or wrong.", body = ProblemBody),
    (status = 404, description = "No active session uses the machine now; poll again.", body = ProblemBody),
))]
pub(super) async fn get_agent_session(
    State(server_context): State<ServerContext>,
    headers: HeaderMap,
) -> Result<Json<AgentSession>, ErrorResponse> {
    let token = auth::bearer_token(&headers).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    let session = server_context.sessions.by_agent_token(&hash);
    let state = session.as_ref().map(|session| session.state());
    let machine = state.as_ref().and_then(|state| state.machine.as_ref());
    let (Some(session), Some(state), Some(machine)) = (&session, &state, machine) else {
        let problem = if server_context.external.has_agent_token(&hash) {
            Problem::UnknownSession
        } else {
            Problem::WrongAgentToken
        };
        return Err(ApiError::new(problem, "no active session uses this machine").into());
    };
    Ok(Json(AgentSession {
        session: session.id.clone(),
        generation: machine.generation,
        provider: state.provider.id.clone(),
        credential_paths: state.provider.credential.paths.clone(),
    }))
}
