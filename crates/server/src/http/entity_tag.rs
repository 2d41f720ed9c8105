//! `ETag` and `If-None-Match` for answers that seldom change.

use anteroom_store::Sha256Hex;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// The largest body that gets a tag, bytes. Larger ones are faults.
const BODY_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Adds the tag of the body; answers 304 if the client has the same body. A client may keep such an answer, but asks each time.
pub(super) async fn add_entity_tag(request: Request, next: Next) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // Weak: the same content may be compressed or not.
    let tag = format!("W/\"{}\"", Sha256Hex::of_bytes(&bytes).as_str().get(..32).unwrap_or_default());
    let is_known = known.is_some_and(|known| has_tag(&known, &tag));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    parts.headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (header::ETAG, tag)));
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn has_tag(known: &HeaderValue, tag: &str) -> bool {
    let is_same = |one: &str| one == "*" || one.trim_start_matches("W/") == tag.trim_start_matches("W/");
    known.to_str().is_ok_and(|tags| tags.split(',').any(|one| is_same(one.trim())))
}
