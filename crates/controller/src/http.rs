//! The routes: one file for each group, each function converts, calls, converts.
//!
//! Deny by default: [`gate`] asks who is calling on every route that is not in [`OPEN`]. What is open is listed by name,
//! with what guards it instead.

mod agent;
mod start_session;
mod body;
mod agent_auth;
mod bundle;
mod credentials;
mod desktop;
mod diagnosis;
mod login;
mod health;
mod host;
mod leaks;
mod metrics;
mod pages;
pub(crate) mod providers;
mod session;
pub(crate) mod sign_in;
mod tickets;
mod reconcile;
mod credential_uses;
mod webhook;

pub use login::LoginLink;
pub use host::host_service;

use crate::{app::App, auth, peer::Peer, api_error::ApiError};
use anteroom_wire::{Problem, SessionId};
use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Routes that answer without a caller: path (a `*` at its end stands for the rest), and what guards it.
pub const OPEN: &[(&str, &str)] = &[
    ("/", "the same page for everybody"),
    ("/enter", "the same page for everybody"),
    ("/dashboard/*", "the same page for everybody"),
    ("/assets/*", "the same files for everybody"),
    ("/favicon.ico", "the same file for everybody"),
    ("/health", "without a caller it says only whether all is well"),
    ("/openapi.json", "the same document for everybody"),
    ("/api/login", "takes a single-use pass"),
    ("/api/auth/credentials/store", "takes the machine's token"),
    ("/api/agent/events", "takes the machine's token"),
    ("/api/agent/session", "takes the machine's token"),
];

/// Session routes that check their caller themselves: a refused WebSocket is accepted first, so that a page hears why.
const SOCKETS: &[&str] = &["/novnc/websock", "/terminal"];

/// The document's head; its paths come from the handlers.
#[derive(OpenApi)]
#[openapi(info(
    title = "Anteroom",
    description = "Disposable machines in which people sign command-line tools in. Errors are `ProblemBody`: a stable code, a sentence, a remedy."
))]
struct Document;

/// The public router.
pub fn router(app: &App) -> Router {
    let from_agents = OpenApiRouter::new()
        .routes(routes!(agent::store))
        .routes(routes!(agent::events))
        .routes(routes!(agent_auth::session))
        .layer(DefaultBodyLimit::max(app.config.http.delivery_bytes_max));
    let (api, document) = api().merge(from_agents).split_for_parts();
    let document = serde_json::to_value(&document).unwrap_or_default();
    let pages = Router::new()
        .route("/", get(pages::shell))
        .route("/enter", get(pages::shell))
        .route("/dashboard/remote-cli", get(pages::shell))
        .route("/dashboard/remote-cli/auth", get(pages::shell))
        .route("/favicon.ico", get(pages::favicon))
        .route("/assets/{*path}", get(pages::asset))
        .route("/api/auth/session/{id}/novnc", get(pages::desktop))
        .route("/openapi.json", get(move || async move { axum::Json(document) }));
    let sockets = Router::new()
        .route("/api/auth/session/{id}/novnc/websock", any(desktop::desktop))
        .route("/api/auth/session/{id}/terminal", any(desktop::terminal));
    api.merge(pages)
        .merge(sockets)
        .fallback(|| async { ApiError::from(Problem::PathNotFound) })
        .method_not_allowed_fallback(|| async { ApiError::from(Problem::MethodNotAllowed) })
        .layer(from_fn_with_state(app.clone(), gate))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(constant(header::CONTENT_SECURITY_POLICY, pages::CONTENT_SECURITY_POLICY))
        .layer(constant(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(constant(header::REFERRER_POLICY, "no-referrer"))
        .layer(constant(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(DefaultBodyLimit::max(app.config.http.body_bytes_max))
        .with_state(app.clone())
}

/// All routes of the API, from whose annotations the OpenAPI document is made.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(start_session::start))
        .routes(routes!(session::read))
        .routes(routes!(session::events))
        .routes(routes!(session::heartbeat))
        .routes(routes!(session::cancel))
        .routes(routes!(session::restart))
        .routes(routes!(session::credentials))
        .routes(routes!(diagnosis::diagnosis))
        .routes(routes!(bundle::make))
        .routes(routes!(session::list))
        .routes(routes!(tickets::create))
        .routes(routes!(sign_in::oauth_url))
        .routes(routes!(sign_in::open_url))
        .routes(routes!(sign_in::paste))
        .routes(routes!(sign_in::code))
        .routes(routes!(sign_in::method))
        .routes(routes!(sign_in::type_text))
        .routes(routes!(credentials::list))
        .routes(routes!(credential_uses::read))
        .routes(routes!(credential_uses::start))
        .routes(routes!(credential_uses::screen))
        .routes(routes!(credentials::lease))
        .routes(routes!(credentials::delete))
        .routes(routes!(providers::list))
        .routes(routes!(login::login))
        .routes(routes!(login::me))
        .routes(routes!(login::create_link))
        .routes(routes!(health::health))
        .routes(routes!(leaks::report))
        .routes(routes!(metrics::metrics))
        .routes(routes!(reconcile::reconcile))
        .routes(routes!(webhook::read))
}

/// Asks who is calling. What follows finds a [`auth::Caller`] in the request's extensions.
async fn gate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0);
    let is_open = OPEN.iter().any(|(open, _)| match open.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == *open,
    });
    let is_socket = path.starts_with("/api/auth/session/") && SOCKETS.iter().any(|end| path.ends_with(end));
    let session = path.strip_prefix("/api/auth/session/").and_then(|rest| rest.split('/').next());
    let session: Option<SessionId> = session.and_then(|id| id.parse().ok());
    let caller = match peer {
        Some(peer) => auth::identify(&app, peer, request.method(), request.headers(), session.as_ref()).await,
        None => Err(Problem::Unauthenticated.into()),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
        }
        Err(refusal) if !is_open && !is_socket => return refusal.into_response(),
        Err(_) => {}
    }
    next.run(request).await
}

fn constant(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer asks for")]
fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(outcome = "panic", cause = text.unwrap_or("unknown"), "a request handler panicked");
    ApiError::from(Problem::Internal).into_response()
}
