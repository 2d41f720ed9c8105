//! Requests of a machine's agent: events and credential deliveries. The agent token authenticates them on every transport.

use super::{error_response::ErrorResponse, extract::Json};
use crate::auth;
use anteroom_controller::{
    api_error::ApiError,
    log::line_budget::SECURITY_TARGET,
    session::context::SessionContext,
    session::{
        accept_delivery, agent_events,
        rejections::{RejectedRequest, record_rejection},
    },
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    MachineId, Problem, ProblemBody, Secret, SessionId,
    agent::{DeliveryResult, EventBatch},
};
use axum::{
    Extension,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode},
};

/// Accepts a captured credential from the agent.
///
/// 200: stored, or ignored because the session has one already. 4xx: rejected; do not retry. 5xx: not stored; retry.
#[utoipa::path(post, operation_id = "store_credential", path = "/api/auth/credentials/store", request_body = anteroom_wire::agent::CredentialDelivery, responses(
    (status = 200, description = "The credential was stored, or ignored because the session has one.", body = DeliveryResult),
    (status = 401, description = "The agent token is missing or wrong.", body = ProblemBody),
    (status = 413, description = "The body is larger than 1 MiB.", body = ProblemBody),
    (status = 422, description = "The files do not meet the provider's rules.", body = ProblemBody),
    (status = 503, description = "The database cannot be written now; retry.", body = ProblemBody),
))]
pub(super) async fn accept_credential(
    State(context): State<SessionContext>,
    machine: Option<Extension<MachineId>>,
    request: Request,
) -> Result<axum::Json<DeliveryResult>, ErrorResponse> {
    // The session that the token belongs to, not the one that the delivery names, gets the entry on its timeline.
    let machine = machine.as_deref();
    let (token, session) = match identify_agent(&context, machine, request.headers()).await {
        Ok(identified) => identified,
        Err(error) => {
            record_rejected_delivery(&context, None, &error);
            return Err(error.into());
        }
    };
    let accepted = async {
        let Json(delivery) = Json::from_request(request, &()).await.map_err(|ErrorResponse(error)| error)?;
        accept_delivery::accept_delivery(&context, &token, &delivery).await
    };
    let result = accepted.await.inspect_err(|error| record_rejected_delivery(&context, Some(&session), error))?;
    Ok(axum::Json(result))
}

/// The agent's token and the session that it belongs to, active or ended. It is found before the body is read. On a machine's channel
/// the token of another running machine is rejected.
async fn identify_agent(
    context: &SessionContext,
    machine: Option<&MachineId>,
    headers: &HeaderMap,
) -> Result<(Secret, SessionId), ApiError> {
    let token = auth::bearer_token(headers).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    if let Some(session) = context.sessions.by_agent_token(&hash) {
        let is_other = |machine| session.state().machine_id() != Some(machine);
        if machine.is_some_and(is_other) {
            return Err(Problem::WrongAgentToken.into());
        }
        return Ok((token, session.id.clone()));
    }
    let ended = context.store.find_session_by_agent_token(&hash).await?.ok_or(Problem::WrongAgentToken)?;
    Ok((token, ended.id))
}

/// Logs a rejected delivery, and records it on the timeline if it is final (4xx). After a 5xx the agent retries and reports that
/// itself. The error detail contains key names of the credential, never values.
fn record_rejected_delivery(context: &SessionContext, session: Option<&SessionId>, error: &ApiError) {
    let (reason, detail) = (error.problem.code(), &error.detail);
    let session = session.filter(|_| error.problem != Problem::UnknownSession);
    tracing::warn!(target: SECURITY_TARGET, outcome = "delivery_rejected", session = session.map(SessionId::as_str), reason, %detail, "delivery rejected");
    if let Some(session) = session.filter(|_| error.problem.http_status() < 500) {
        let request = if error.problem == Problem::WrongAgentToken {
            RejectedRequest::UnauthorizedDelivery
        } else {
            RejectedRequest::Delivery
        };
        record_rejection(&context.timeline, session, request, error);
    }
}

/// Accepts events from the agent. On a machine's channel the channel identifies the machine; over HTTP the agent token does.
#[utoipa::path(post, operation_id = "report_agent_events", path = "/api/agent/events", request_body = Object, responses(
    (status = 204, description = "The events were accepted."),
    (status = 401, description = "The agent token is missing or wrong.", body = ProblemBody),
))]
pub(super) async fn receive_events(
    State(context): State<SessionContext>,
    machine: Option<Extension<MachineId>>,
    request: Request,
) -> Result<StatusCode, ErrorResponse> {
    let token = auth::bearer_token(request.headers()).ok_or(Problem::WrongAgentToken)?;
    let hash = Sha256Hex::of_secret(&token);
    let session = match machine {
        Some(Extension(machine)) => context.sessions.by_machine(&machine),
        None => context.sessions.by_agent_token(&hash),
    };
    let session =
        session.filter(|session| session.state().agent_token() == Some(&hash)).ok_or(Problem::WrongAgentToken)?;
    let Json(events): Json<EventBatch> = Json::from_request(request, &()).await?;
    agent_events::ingest_events(&context, &session, events).await?;
    Ok(StatusCode::NO_CONTENT)
}
