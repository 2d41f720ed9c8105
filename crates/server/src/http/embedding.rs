//! The session's page in a frame or a popup of another site: only of the origins in `http.frame_ancestors`.

use super::pages::{CONTENT_SECURITY_POLICY, FRAME_ANCESTORS_NONE};
use crate::app::App;
use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// Permits the configured origins to show the page in a frame, and to keep a reference to it as a popup, so that it can post messages to
/// them. Without such origins the headers of all pages apply.
pub(super) async fn permit_embedding(State(app): State<App>, mut response: Response) -> Response {
    let config = app.server_context.config();
    let ancestors = &config.http.frame_ancestors;
    if ancestors.is_empty() {
        return response;
    }
    let policy =
        CONTENT_SECURITY_POLICY.replace(FRAME_ANCESTORS_NONE, &format!("frame-ancestors {}", ancestors.join(" ")));
    // The configuration accepts only characters that a header may have.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response.headers_mut().insert(opener, HeaderValue::from_static("unsafe-none"));
    }
    response
}
