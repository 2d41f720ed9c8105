//! `GET /api/agent/session`: an external machine is not claimed, so its agent asks which session it serves.

use crate::{app::App, auth, api_error::ApiError};
use anteroom_store::Sha256Hex;
use anteroom_wire::{Problem, ProblemBody, agent::AgentSession};
use axum::{Json, extract::State, http::HeaderMap};

/// The session that the machine with this token serves now. 404: none; ask again.
#[utoipa::path(get, path = "/api/agent/session", responses(
    (status = 200, body = AgentSession), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn session(State(app): State<App>, headers: HeaderMap) -> Result<Json<AgentSession>, ApiError> {
    let token = auth::bearer(&headers).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    let Some(live) = app.sessions.by_agent_token(&hash) else {
        let problem = if app.external.has_agent(&hash) { Problem::UnknownSession } else { Problem::WrongAgentToken };
        return Err(ApiError::new(problem, "no live session uses this machine"));
    };
    let facts = live.state();
    Ok(Json(AgentSession {
        session: live.id.clone(),
        generation: facts.generation,
        provider: facts.provider.id.clone(),
        paths: facts.provider.credential.paths.clone(),
    }))
}
