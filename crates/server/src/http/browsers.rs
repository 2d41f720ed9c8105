//! The browsers that are signed in: list the own ones, sign one out.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, CallerPath},
};
use crate::auth::{
    Auth,
    browsers::{self, PageContext},
    cookie_name,
};
use anteroom_controller::{api_error::ApiError, unix_time::format_rfc3339};
use anteroom_store::BrowserRow;
use anteroom_wire::{CallerId, Problem, ProblemBody};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// A browser that is signed in.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct BrowserView {
    /// Its id.
    pub id: CallerId,
    /// The browser and its operating system.
    pub description: String,
    /// The address from which it signed in.
    pub address: String,
    /// When it signed in (RFC 3339).
    pub signed_in_at: String,
    /// When it was last used, to the minute (RFC 3339).
    pub last_used_at: String,
    /// When it is signed out at the latest (RFC 3339).
    #[schema(required)]
    pub expires_at: Option<String>,
    /// Whether it is the browser that sent this request.
    pub is_current: bool,
}

/// `GET /api/browsers`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct BrowserList {
    /// The last used first.
    pub browsers: Vec<BrowserView>,
}

fn view(row: BrowserRow, current: &CallerId) -> BrowserView {
    BrowserView {
        is_current: row.caller == *current,
        id: row.caller,
        description: row.description,
        address: row.address,
        signed_in_at: format_rfc3339(row.signed_in_at_ms),
        last_used_at: format_rfc3339(row.last_used_at_ms),
        expires_at: row.expires_at_ms.map(format_rfc3339),
    }
}

/// Lists the browsers in which the caller is signed in. A caller that is not a browser has none.
#[utoipa::path(get, operation_id = "list_browsers", path = "/api/browsers", responses(
    (status = 200, description = "The browsers.", body = BrowserList),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
))]
pub(super) async fn list_browsers(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
) -> Result<axum::Json<BrowserList>, ErrorResponse> {
    let rows = browsers::list_own_browsers(&auth, &caller).await?;
    Ok(axum::Json(BrowserList { browsers: rows.into_iter().map(|row| view(row, &caller.id)).collect() }))
}

/// Signs one of the caller's browsers out.
#[utoipa::path(delete, operation_id = "sign_browser_out", path = "/api/browsers/{id}", params(("id" = String, Path)), responses(
    (status = 204, description = "It is signed out."),
    (status = 403, description = "It is not one of the caller's browsers.", body = ProblemBody),
))]
pub(super) async fn sign_browser_out(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CallerPath(id): CallerPath,
) -> Result<StatusCode, ErrorResponse> {
    browsers::sign_out(&auth, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs this browser out and deletes its cookie.
#[utoipa::path(post, operation_id = "log_out", path = "/api/logout", responses(
    (status = 204, description = "The browser is signed out."),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
    (status = 403, description = "The caller is not a browser.", body = ProblemBody),
))]
pub(super) async fn log_out(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
) -> Result<Response, ErrorResponse> {
    if auth.store.get_browser(&caller.id).await?.is_none() {
        return Err(ApiError::new(Problem::NotABrowser, "only a browser can sign out; revoke a token instead").into());
    }
    browsers::sign_out(&auth, &caller, &caller.id).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let name = cookie_name(&caller.role);
    for context in [PageContext::TopLevel, PageContext::Embedded] {
        if context == PageContext::TopLevel || auth.frames_permitted {
            response.headers_mut().append(header::SET_COOKIE, browsers::set_cookie(&auth, &name, "", 0, context)?);
        }
    }
    Ok(response)
}
