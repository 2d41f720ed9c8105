//! What is so with a session, and why, in one read.

use super::body::Mine;
use crate::{app::App, refusal::Refusal, session::diagnose};
use anteroom_store::Role;
use anteroom_wire::{Problem, ProblemBody, diagnosis::Diagnosis};
use axum::{Json, extract::State};

/// The verdict, what proves it, what to do, and every link of the chain. Answers after the session has ended, too.
#[utoipa::path(get, path = "/api/auth/session/{id}/diagnosis", params(("id" = String, Path)), responses(
    (status = 200, body = Diagnosis), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn diagnosis(State(app): State<App>, mine: Mine) -> Result<Json<Diagnosis>, Refusal> {
    let is_operator = mine.caller.role == Role::Operator;
    let diagnosis = diagnose::look_as(&app, &mine.row.id, is_operator).await?.ok_or(Problem::UnknownSession)?;
    let verdict = diagnosis.verdict.code();
    tracing::info!(outcome = "diagnosed", session = %mine.row.id, verdict, "a session was diagnosed");
    Ok(Json(diagnosis))
}
