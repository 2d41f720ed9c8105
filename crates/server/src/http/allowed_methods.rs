//! `OPTIONS`, and the header `Allow`.

use super::routes::FoundRoute;
use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Answers `OPTIONS` for each known path, and names the methods of a path in an answer of 405 (RFC 9110 §15.5.6). No caller is needed: the
/// OpenAPI document has the same list. There is no header of CORS: pages of other sites cannot use the API.
pub(super) async fn name_allowed_methods(request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let allowed = pattern.map(FoundRoute::allowed_methods).filter(|methods| !methods.is_empty());
    let Some(allowed) = allowed.and_then(|methods| HeaderValue::try_from(methods).ok()) else {
        return next.run(request).await;
    };
    if request.method() == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, allowed)]).into_response();
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}
