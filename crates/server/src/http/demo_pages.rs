//! The pages of the demo's identity provider, for people's own browsers; only with `anteroom serve --demo`.

use super::error_response::ErrorResponse;
use crate::{app::App, demo::DEMO_PATH};
use anteroom_wire::Problem;
use axum::{
    extract::{Request, State},
    http::Uri,
    response::{IntoResponse, Response},
};
use tower::ServiceExt;

/// Passes the request to the identity provider, with the path that it has in machines.
pub(super) async fn answer(State(app): State<App>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(DEMO_PATH)).map(str::to_owned);
    let (Some(pages), Some(Ok(uri))) = (&app.demo_pages, path.map(Uri::try_from)) else {
        return ErrorResponse::from(Problem::PathNotFound).into_response();
    };
    *request.uri_mut() = uri;
    match pages.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
