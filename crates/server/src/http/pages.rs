//! The web pages. They are public and static; all data comes from the API, which authenticates its callers.

use super::{
    accept::prefers_html,
    embedded_files::{EmbeddedFile, NoFile},
    error_response::ErrorResponse,
    language::Language,
    routes::FoundRoute,
};
use anteroom_wire::Problem;
use axum::{
    extract::{MatchedPath, Path, Request, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;

/// Content Security Policy of the pages: no inline code, no external resources.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

/// The part of [`CONTENT_SECURITY_POLICY`] that forbids frames of other sites.
pub(super) const FRAME_ANCESTORS_NONE: &str = "frame-ancestors 'none'";

/// Features of browsers that no page uses. The desktop uses the clipboard and the full screen.
pub(super) const PERMISSIONS_POLICY: &str = "accelerometer=(), autoplay=(), bluetooth=(), camera=(), display-capture=(), geolocation=(), \
     gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Anteroom</title><main><h1>Anteroom</h1>\
     <p>The server is running, but it was built without its web pages: run <code>./up</code>, or <code>npm ci && npm run build</code> in \
     <code>web/</code> and build again. The API is described at <a href=/openapi.json>/openapi.json</a>.</main>";

/// The page where connections begin.
pub(super) const START_PATH: &str = "/dashboard/remote-cli";

/// Must be revalidated: the next version of the server has the same address.
const REVALIDATED: &str = "no-cache";
/// The name contains a hash of the content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// An error is of one request.
const NOT_STORED: &str = "no-store";

/// The HTML file of a page.
#[derive(Debug, Clone, Copy)]
pub(super) enum Page {
    Start,
    Session,
    Login,
    SignInCallback,
    Desktop,
    Admin,
}

impl Page {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "index",
            Self::Session => "session",
            Self::Login => "login",
            Self::SignInCallback => "sign-in-callback",
            Self::Desktop => "desktop",
            Self::Admin => "admin",
        }
    }

    fn file(self, headers: &HeaderMap) -> String {
        match self {
            Self::Start | Self::Session | Self::Login | Self::SignInCallback | Self::Desktop => {
                Language::of(headers).file(self.name())
            }
            // The operators' pages are in English.
            Self::Admin => Language::English.file(self.name()),
        }
    }

    /// The page, before its data.
    pub(super) fn get(self, headers: &HeaderMap) -> Response {
        match EmbeddedFile::find(&self.file(headers), headers) {
            Ok(file) => vary_by_language(file.into_response(headers, REVALIDATED)),
            Err(NoFile::Missing) => (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response(),
            Err(NoFile::NotAcceptable) => ErrorResponse::from(Problem::NotAcceptable).into_response(),
        }
    }
}

/// Adds the headers by which the language was chosen.
fn vary_by_language(mut response: Response) -> Response {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-language, cookie"));
    response
}

/// Scripts, styles and the icon. Their names contain a hash of the content, so they are cached permanently.
pub(super) async fn get_asset(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    let Ok(Path(path)) = path else { return ErrorResponse::from(Problem::PathNotFound).into_response() };
    match EmbeddedFile::find(&format!("assets/{path}"), &headers) {
        Ok(file) => file.into_response(&headers, IMMUTABLE),
        Err(NoFile::Missing) => ErrorResponse::from(Problem::PathNotFound).into_response(),
        Err(NoFile::NotAcceptable) => ErrorResponse::from(Problem::NotAcceptable).into_response(),
    }
}

/// No icon has this name; the pages name theirs.
pub(super) async fn get_favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Continues at the page where connections begin.
pub(super) async fn redirect_to_start() -> Response {
    redirect(StatusCode::TEMPORARY_REDIRECT, START_PATH, None)
}

/// Continues at the same address without the slash at its end. Only known paths have this route: a redirect to what a client
/// sends could lead to another host.
pub(super) async fn redirect_without_slash(path: MatchedPath, uri: Uri) -> Response {
    redirect(StatusCode::PERMANENT_REDIRECT, path.as_str().trim_end_matches('/'), uri.query())
}

fn redirect(status: StatusCode, path: &str, query: Option<&str>) -> Response {
    let location = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let location = HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static(START_PATH));
    (status, [(header::LOCATION, location)]).into_response()
}

/// Answers a person's browser with a page instead of a problem document, for everything that is not the API.
pub(super) async fn answer_errors_with_pages(request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).map(str::to_owned);
    let is_for_people = pattern.as_deref() == Some(DESKTOP_PAGE) || !is_api(request.uri().path());
    let route =
        pattern.as_deref().map_or(FoundRoute::Unlisted, |pattern| FoundRoute::of(request.method(), Some(pattern)));
    let headers = request.headers().clone();
    let mut response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    if !is_for_people || !is_error {
        return response;
    }
    if prefers_html(&headers) && !is_page(&response) {
        response = error_page(response, &headers, route);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether programs use this path.
fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Whether an error of a request that reached no route is sent as a page.
pub(crate) fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    !is_api(path) && prefers_html(headers)
}

/// The route of the page with only the desktop.
pub(super) const DESKTOP_PAGE: &str = "/api/auth/session/{id}/novnc";

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

/// The page for an error, with the error's headers.
fn error_page(error: Response, request: &HeaderMap, route: FoundRoute) -> Response {
    let status = match (error.status(), route) {
        // Without a valid caller, an address that does not exist is not distinguished from others; a person has only mistyped it.
        (StatusCode::UNAUTHORIZED, FoundRoute::Unlisted) => StatusCode::NOT_FOUND,
        (status, _) => status,
    };
    let (mut parts, _) = error.into_parts();
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CACHE_CONTROL] {
        parts.headers.remove(name);
    }
    if status == StatusCode::NOT_FOUND {
        parts.headers.remove(header::WWW_AUTHENTICATE);
    }
    let mut page = match find_error_page(status, request) {
        Some(file) => vary_by_language(file.into_unconditional_response(NOT_STORED)),
        None => Html(NOT_BUILT).into_response(),
    };
    *page.status_mut() = status;
    page.headers_mut().extend(parts.headers);
    page.extensions_mut().extend(parts.extensions);
    page
}

/// A client that accepts none of its encodings gets it uncompressed.
fn find_error_page(status: StatusCode, request: &HeaderMap) -> Option<EmbeddedFile> {
    let name = error_page_file(status.as_u16(), Language::of(request));
    match EmbeddedFile::find(&name, request) {
        Ok(file) => Some(file),
        Err(NoFile::Missing | NoFile::NotAcceptable) => EmbeddedFile::find_plain(&name),
    }
}

fn error_page_file(status: u16, language: Language) -> String {
    language.file(&format!("errors/{status}"))
}

/// The page for an answer before the request was read as a whole.
pub(crate) fn busy_page(request: &HeaderMap) -> Option<Bytes> {
    let busy = StatusCode::SERVICE_UNAVAILABLE.as_u16();
    Some(EmbeddedFile::find_plain(&error_page_file(busy, Language::of(request)))?.into_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_an_error_has_its_page() {
        for (problem, language) in Problem::ALL.iter().flat_map(|problem| Language::ALL.map(|one| (problem, one))) {
            let name = error_page_file(problem.http_status(), language);
            assert!(EmbeddedFile::find_plain(&name).is_some(), "web/src/error-pages.tsx has no {name} for {problem:?}");
        }
    }
}
