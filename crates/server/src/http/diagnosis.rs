//! `GET /api/auth/session/{id}/diagnosis`.

use super::{error_response::ErrorResponse, extract::OwnedSession};
use anteroom_controller::session::{
    diagnose,
    host_facts::{Audience, hide_in_diagnosis},
    server_context::ServerContext,
};
use anteroom_wire::{Problem, ProblemBody, diagnosis::Diagnosis};
use axum::{Json, extract::State};

/// Explains the session's current state or failure: verdict, evidence, remedy and causal chain. Also available after the session has
/// ended.
#[utoipa::path(get, operation_id = "get_diagnosis", path = "/api/auth/session/{id}/diagnosis", params(("id" = String, Path)), responses(
    (status = 200, description = "The diagnosis.", body = Diagnosis),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn get_diagnosis(
    State(server_context): State<ServerContext>,
    owned: OwnedSession,
) -> Result<Json<Diagnosis>, ErrorResponse> {
    let audience = Audience::of(&owned.caller);
    let is_operator = audience == Audience::Operators;
    let mut diagnosis =
        diagnose::diagnose_for(&server_context, &owned.row.id, is_operator).await?.ok_or(Problem::UnknownSession)?;
    hide_in_diagnosis(&mut diagnosis, audience);
    let verdict = diagnosis.verdict.code();
    tracing::info!(outcome = "diagnosed", session = %owned.row.id, verdict, "session diagnosed");
    Ok(Json(diagnosis))
}
