//! The web pages, embedded in the binary: the application shell, the desktop page, and their assets. They are public and static;
//! all data comes from the API, which authenticates its callers.

use super::error_response::ErrorResponse;
use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct WebAssets;

/// Content Security Policy of the pages: no inline code, no external resources.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

/// Features of browsers that no page uses. The desktop uses the clipboard and the full screen.
pub(super) const PERMISSIONS_POLICY: &str = "accelerometer=(), autoplay=(), bluetooth=(), camera=(), display-capture=(), geolocation=(), \
     gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Anteroom</title><h1>Anteroom</h1>\
     <p>The server is running, but it was built without its web pages: run <code>./up</code>, or <code>npm ci && npm run build</code> in \
     <code>web/</code> and build again. The API is described at <a href=/openapi.json>/openapi.json</a>.";

/// The application shell, for `/`, `/login` and the dashboard.
pub(super) async fn get_app_page() -> Response {
    page("index.html")
}

/// The desktop page.
pub(super) async fn get_desktop_page() -> Response {
    page("desktop.html")
}

fn page(name: &str) -> Response {
    let mut response = match WebAssets::get(name) {
        Some(file) => Html(content(file)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Scripts, styles and fonts. Their names contain a hash of the content, so they are cached permanently.
pub(super) async fn get_asset(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    let found = path.ok().and_then(|Path(path)| Some((WebAssets::get(&format!("assets/{path}"))?, path)));
    let Some((file, path)) = found else {
        return ErrorResponse::from(anteroom_wire::Problem::PathNotFound).into_response();
    };
    let etag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..12]));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    let headers = [
        (header::CONTENT_TYPE, kind.as_ref().to_owned()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::ETAG, etag),
    ];
    (headers, content(file)).into_response()
}

/// The content of an embedded file, not copied: many clients that read it slowly take no memory.
fn content(file: EmbeddedFile) -> Bytes {
    match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// The icon; 204 if the pages were built without one.
pub(super) async fn get_favicon() -> Response {
    match WebAssets::get("favicon.ico").or_else(|| WebAssets::get("assets/favicon.svg")) {
        Some(file) => {
            let kind = file.metadata.mimetype().to_owned();
            ([(header::CONTENT_TYPE, kind)], content(file)).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
