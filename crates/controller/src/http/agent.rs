//! What a machine's agent posts: events and the credential. The machine's token is its credential, on whichever way it comes.

use super::body::Json;
use crate::{
    app::App,
    auth,
    api_error::ApiError,
    session::{
        agent_events, complete,
        rejections::{RejectedRequest, record_rejection},
    },
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    MachineId, Problem, ProblemBody, Secret, SessionId,
    agent::{Delivery, DeliveryResult, Events},
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode},
};

/// Takes a credential. 200 whether stored or ignored; 4xx: do not send it again; 5xx: keep it and try again.
#[utoipa::path(post, path = "/api/auth/credentials/store", request_body = Object, responses(
    (status = 200, body = DeliveryResult), (status = 401, body = ProblemBody), (status = 413, body = ProblemBody),
    (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn store(
    State(app): State<App>,
    headers: HeaderMap,
    delivery: Result<Json<Delivery>, ApiError>,
) -> Result<axum::Json<DeliveryResult>, ApiError> {
    let token = auth::bearer(&headers);
    let delivery = match delivery {
        Ok(Json(delivery)) => delivery,
        Err(refusal) => {
            // It names no session: the token does.
            let live = token.and_then(|token| app.sessions.by_agent_token(&Sha256Hex::of_secret(&token)));
            not_taken(&app, live.map(|live| live.id.clone()).as_ref(), &refusal);
            return Err(refusal);
        }
    };
    // No token is a wrong one.
    let token = token.unwrap_or_else(|| Secret::new(String::new()));
    let done = complete::complete(&app, &token, &delivery).await;
    done.map(axum::Json).inspect_err(|refusal| not_taken(&app, Some(&delivery.session), refusal))
}

/// Notes a refusal on the session's timeline when it is for good: of another one the agent tells itself, trying again.
/// What the refusal says of the credential is names of keys.
fn not_taken(app: &App, session: Option<&SessionId>, refusal: &ApiError) {
    let (reason, detail) = (refusal.problem.code(), &refusal.detail);
    let session = session.filter(|_| refusal.problem != Problem::UnknownSession);
    tracing::warn!(outcome = "delivery_rejected", session = session.map(SessionId::as_str), reason, %detail, "a delivery was refused");
    if let Some(session) = session.filter(|_| refusal.problem.http_status() < 500) {
        let is_stranger = refusal.problem == Problem::WrongAgentToken;
        record_rejection(app, session, if is_stranger { RejectedRequest::UnauthorizedDelivery } else { RejectedRequest::Delivery }, refusal);
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
) -> Result<StatusCode, ApiError> {
    let token = auth::bearer(&headers).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    let live = match machine {
        Some(Extension(machine)) => app.sessions.by_machine(&machine),
        None => app.sessions.by_agent_token(&hash),
    };
    let live = live.filter(|live| live.state().agent_token.as_ref() == Some(&hash)).ok_or(Problem::WrongAgentToken)?;
    agent_events::ingest(&app, &live, events).await?;
    Ok(StatusCode::NO_CONTENT)
}
