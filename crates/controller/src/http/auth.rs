//! `POST /api/auth/start`.

use super::body::Json;
use crate::{
    app::App,
    callers::{self, Caller},
    refusal::Refusal,
    session::{start, view},
};
use anteroom_wire::{
    ProblemBody,
    api::{StartRequest, Started},
};
use axum::{extract::State, http::StatusCode, response::IntoResponse};

/// Starts a session and answers at once; its machine is on the way.
#[utoipa::path(post, path = "/api/auth/start", request_body = StartRequest, responses(
    (status = 202, body = Started), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<StartRequest>,
) -> Result<impl IntoResponse, Refusal> {
    caller.may_start()?;
    let owner = start::owner_of(&app, &caller, &request).await?;
    let row = start::start(&app, &owner, &request).await?;
    let viewer_url = callers::viewer_link(&app, &row).await?;
    let session = view::view(&app, &row).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Started { session, viewer_url })))
}
