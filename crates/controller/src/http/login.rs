//! Signing in: a link's pass becomes a cookie; who am I; a new link.

use super::body::Json;
use crate::{
    app::App,
    auth::{self, Caller},
    api_error::ApiError,
};
use anteroom_store::Role;
use anteroom_wire::{
    ProblemBody, Secret,
    api::{CurrentCaller, LoginRequest},
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// Turns a single-use pass into a cookie.
#[utoipa::path(post, path = "/api/login", request_body = LoginRequest, responses((status = 204), (status = 401, body = ProblemBody)))]
pub(super) async fn enter(
    State(app): State<App>,
    caller: Option<axum::Extension<Caller>>,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    auth::own_origin(&app, &headers)?;
    let present = caller.as_ref().map(|caller| &caller.0);
    let cookie = auth::login_links::enter(&app, &Secret::new(request.login_token), present).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Who is asking.
#[utoipa::path(get, path = "/api/me", responses((status = 200, body = CurrentCaller), (status = 401, body = ProblemBody)))]
pub(super) async fn me(caller: Caller) -> axum::Json<CurrentCaller> {
    let session = match &caller.role {
        Role::Viewer(session) => Some(session.clone()),
        Role::Operator | Role::Backend => None,
    };
    axum::Json(CurrentCaller { role: caller.role.as_str().to_owned(), session })
}

/// A link that lets one person in as operator, once.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Link {
    /// The address; its fragment is the single-use pass.
    pub url: String,
    /// Seconds it can be used.
    pub expires_in_s: u64,
}

/// Makes a new sign-in link. Operators only.
#[utoipa::path(post, path = "/api/links", responses((status = 200, body = Link), (status = 403, body = ProblemBody)))]
pub(super) async fn link(State(app): State<App>, caller: Caller) -> Result<axum::Json<Link>, ApiError> {
    caller.may_operate()?;
    let url = auth::login_links::enter_link(&app).await?;
    Ok(axum::Json(Link { url, expires_in_s: app.config.sessions.login_link_s_max }))
}
