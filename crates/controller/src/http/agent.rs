//! What a machine's agent posts: events and the credential. The machine's token is its credential, on whichever way it comes.

use super::body::Json;
use crate::{
    app::App,
    callers,
    refusal::Refusal,
    session::{complete, hear},
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    MachineId, Problem, ProblemBody,
    agent::{Delivered, Delivery, Events},
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode},
};

/// Takes a credential. 200 whether stored or ignored; 4xx: do not send it again; 5xx: keep it and try again.
#[utoipa::path(post, path = "/api/auth/credentials/store", request_body = Object, responses(
    (status = 200, body = Delivered), (status = 401, body = ProblemBody), (status = 413, body = ProblemBody),
    (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn store(
    State(app): State<App>,
    headers: HeaderMap,
    Json(delivery): Json<Delivery>,
) -> Result<axum::Json<Delivered>, Refusal> {
    let token = callers::bearer(&headers).ok_or(Problem::WrongAgentToken)?;
    match complete::complete(&app, &token, &delivery).await {
        Ok(delivered) => Ok(axum::Json(delivered)),
        Err(refusal) => {
            tracing::warn!(outcome = "delivery_refused", session = %delivery.session, reason = refusal.problem.code(), detail = %refusal.detail, "a delivery was refused");
            Err(refusal)
        }
    }
}

/// Takes what happened in a machine. On a machine's own channel the machine is known; elsewhere its token tells.
#[utoipa::path(post, path = "/api/agent/events", request_body = Object, responses(
    (status = 204), (status = 401, body = ProblemBody)))]
pub(super) async fn events(
    State(app): State<App>,
    machine: Option<Extension<MachineId>>,
    headers: HeaderMap,
    Json(events): Json<Events>,
) -> Result<StatusCode, Refusal> {
    let token = callers::bearer(&headers).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    let live = match machine {
        Some(Extension(machine)) => app.sessions.of_machine(&machine),
        None => app.sessions.of_agent(&hash),
    };
    let live = live.filter(|live| live.facts().agent_token.as_ref() == Some(&hash)).ok_or(Problem::WrongAgentToken)?;
    hear::hear(&app, &live, events).await?;
    Ok(StatusCode::NO_CONTENT)
}
