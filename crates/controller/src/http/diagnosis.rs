//! What is so with a session, and why, in one read.

use super::body::OwnedSession;
use crate::{app::App, api_error::ApiError, session::diagnose};
use anteroom_store::Role;
use anteroom_wire::{Problem, ProblemBody, diagnosis::Diagnosis};
use axum::{Json, extract::State};

/// The verdict, what proves it, what to do, and every link of the chain. Answers after the session has ended, too.
#[utoipa::path(get, path = "/api/auth/session/{id}/diagnosis", params(("id" = String, Path)), responses(
    (status = 200, body = Diagnosis), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn diagnosis(State(app): State<App>, mine: OwnedSession) -> Result<Json<Diagnosis>, ApiError> {
    let is_operator = mine.caller.role == Role::Operator;
    let diagnosis = diagnose::diagnose_for(&app, &mine.row.id, is_operator).await?.ok_or(Problem::UnknownSession)?;
    let verdict = diagnosis.verdict.code();
    tracing::info!(outcome = "diagnosed", session = %mine.row.id, verdict, "a session was diagnosed");
    Ok(Json(diagnosis))
}
