//! The pages: one shell for people, one bare desktop, their assets. Embedded in the binary; the same for everybody, so
//! they need no caller: everything they show is asked from the API, which does.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Built;

/// What the pages may do: nothing inline, nothing from elsewhere.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Anteroom</title><h1>Anteroom</h1>\
     <p>The server runs. It was built without its pages: run <code>./up</code>, or <code>npm ci && npm run build</code> in \
     <code>web/</code> and build again. The API is described at <a href=/openapi.json>/openapi.json</a>.";

/// The shell for `/`, `/enter` and the dashboard.
pub(super) async fn shell() -> Response {
    page("index.html")
}

/// The bare desktop page.
pub(super) async fn desktop() -> Response {
    page("desktop.html")
}

fn page(name: &str) -> Response {
    let mut response = match Built::get(name) {
        Some(file) => Html(file.data.into_owned()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Scripts, styles, fonts: their names carry their content's hash.
pub(super) async fn asset(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    let found = path.ok().and_then(|Path(path)| Some((Built::get(&format!("assets/{path}"))?, path)));
    let Some((file, path)) = found else {
        return crate::api_error::ApiError::from(anteroom_wire::Problem::PathNotFound).into_response();
    };
    let etag = format!("\"{}\"", crate::random::hex(&file.metadata.sha256_hash()[..12]));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    let headers = [
        (header::CONTENT_TYPE, kind.as_ref().to_owned()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::ETAG, etag),
    ];
    (headers, file.data.into_owned()).into_response()
}

/// The icon; none was made for this server's pages when it is missing.
pub(super) async fn favicon() -> Response {
    match Built::get("favicon.ico").or_else(|| Built::get("assets/favicon.svg")) {
        Some(file) => {
            let kind = file.metadata.mimetype().to_owned();
            ([(header::CONTENT_TYPE, kind)], file.data.into_owned()).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
