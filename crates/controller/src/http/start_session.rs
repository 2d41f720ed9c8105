//! `POST /api/auth/start`.

use super::body::Json;
use crate::{
    app::App,
    auth::{self, Caller},
    api_error::ApiError,
    session::{start, view},
};
use anteroom_wire::{
    ProblemBody,
    api::{StartRequest, StartResponse},
};
use axum::{extract::State, http::StatusCode, response::IntoResponse};

/// Starts a session and answers at once; its machine is on the way.
#[utoipa::path(post, path = "/api/auth/start", request_body = StartRequest, responses(
    (status = 202, body = StartResponse), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<StartRequest>,
) -> Result<impl IntoResponse, ApiError> {
    caller.may_start()?;
    let owner = start::owner_of(&app, &caller, &request).await?;
    let row = start::start(&app, &owner, &request).await?;
    let viewer_url = auth::login_links::viewer_link(&app, &row).await?;
    let session = view::view(&app, &row).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(StartResponse { session, viewer_url })))
}
