//! The HTTP routes: one file for each group of handlers. A handler parses the request, calls a use case and converts the result.
//!
//! Access is denied by default: [`authenticate`] lets only the routes in [`routes::ROUTES`] reach their handlers, each with what it
//! requires of its caller.

mod accept;
mod agent;
mod agent_auth;
mod allowed_methods;
mod audit;
mod browsers;
mod bundle;
mod config_report;
mod consent;
mod controller_service;
mod credential_uses;
mod credentials;
mod demo_pages;
mod diagnosis;
mod document;
mod embedded_files;
mod embedding;
mod entity_tag;
mod erase;
mod error_response;
pub(crate) mod event_streams;
mod exec_socket;
mod extract;
pub(crate) mod health;
mod helpers;
mod hosts;
pub(crate) mod http_metrics;
mod invitations;
mod keys;
mod known_queries;
mod language;
mod leaks;
#[cfg(test)]
mod limits_document;
mod login;
mod machines;
pub(crate) mod maintenance;
mod metrics;
mod observe_input;
mod oidc;
mod overview;
mod own_host;
pub(crate) mod pages;
pub(crate) mod providers;
mod proxy_faults;
pub(crate) mod rates;
mod reconcile;
mod record_request;
pub(crate) mod request_body;
mod route;
pub mod routes;
mod server_log;
mod session;
mod session_hosts;
mod session_links;
mod session_list;
mod session_log;
pub(crate) mod sign_in;
mod start_session;
mod tickets;
mod tokens;
mod unread_body;
mod viewer_scope;
pub(crate) mod viewer_sockets;
mod webhook;

pub use controller_service::controller_service;
pub use event_streams::{EventStreams, FileStreams, SessionListStreams};
pub use health::PublicHealth;
pub use http_metrics::HttpMetrics;
pub use login::LoginLink;
pub use maintenance::Maintenance;
pub use rates::Rates;
pub use request_body::BodyBudgets;

use crate::{
    app::App,
    auth,
    demo::DEMO_PATH,
    listener::{Connection, TooManyConnections},
    peer::{ClientAddress, Peer},
};
use allowed_methods::name_allowed_methods;
use anteroom_controller::{
    api_error::ApiError,
    audit::{note_actor, note_peer},
    caller::{Action, Caller, Resource},
    oidc::REDIRECT_PATH,
};
use anteroom_store::Sha256Hex;
use anteroom_wire::{Problem, SessionId};
use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state, map_response_with_state},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use entity_tag::add_entity_tag;
use error_response::ErrorResponse;
use known_queries::{KnownQueries, refuse_unknown_queries};
use pages::Page;
use request_body::{BodyOwner, limit_body};
use routes::{Access, FoundRoute, RequestedAction, Route, as_get};
use tower::{
    Layer,
    util::{MapRequestLayer, option_layer},
};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer, set_header::SetResponseHeaderLayer};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Largest request body except for deliveries, bytes. The largest ones are commands with their arguments.
const BODY_BYTES_MAX: usize = 64 * 1_024;

/// Largest body of a login, bytes: it needs no caller. A login token is shorter than 100 bytes.
const LOGIN_BYTES_MAX: usize = 4 * 1_024;

/// Largest answer of the identity provider that a page passes on, bytes: it needs no caller. Codes of some providers have 2 KiB.
const OIDC_ANSWER_BYTES_MAX: usize = 16 * 1_024;

/// The public router.
pub fn router(app: &App) -> Router {
    let agent_api = agent_api().layer(DefaultBodyLimit::max(app.limits.http.delivery_bytes_max));
    let (api, document) = api().merge(agent_api).split_for_parts();
    let document = document::finish(&document);
    let known_queries = KnownQueries::of_paths(&document.paths);
    let document = serde_json::to_value(document).unwrap_or_default();
    let document = Router::new()
        .route("/openapi.json", get(move || async move { axum::Json(document) }))
        .layer(from_fn(add_entity_tag))
        .layer(compression());
    let sockets = Router::new()
        .route("/api/auth/session/{id}/novnc/websock", any(viewer_sockets::open_desktop_socket))
        .route("/api/auth/session/{id}/terminal", any(viewer_sockets::open_terminal_socket));
    let routes = api
        .merge(pages(app))
        .merge(document)
        .merge(sockets)
        .fallback(|| async { ErrorResponse::from(Problem::PathNotFound) })
        .method_not_allowed_fallback(|| async { ErrorResponse::from(Problem::MethodNotAllowed) })
        .layer(from_fn(move |request: Request, next: Next| {
            refuse_unknown_queries(known_queries.clone(), request, next)
        }))
        .layer(from_fn_with_state(app.clone(), authenticate))
        .layer(from_fn(name_allowed_methods))
        .layer(from_fn_with_state(app.clone(), own_host::require_own_host))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(from_fn_with_state(app.clone(), record_request::record_request))
        .layer(from_fn(unread_body::announce_close))
        .layer(from_fn(pages::answer_errors_with_pages))
        .layer(response_header(header::CONTENT_SECURITY_POLICY, pages::CONTENT_SECURITY_POLICY))
        .layer(response_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(response_header(header::REFERRER_POLICY, "no-referrer"))
        .layer(response_header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(response_header(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .layer(response_header(HeaderName::from_static("permissions-policy"), pages::PERMISSIONS_POLICY))
        // Pages and assets have another value; everything else may carry secrets.
        .layer(response_header(header::CACHE_CONTROL, "no-store"))
        .layer(option_layer(strict_transport_security(app)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app.clone());
    // The version is removed before a route is looked for.
    Router::new().fallback_service(MapRequestLayer::new(routes::without_version).layer(routes))
}

/// The pages and their files.
fn pages(app: &App) -> Router<App> {
    let page = |page: Page| get(move |headers: HeaderMap| async move { page.get(&headers) });
    let without_slash = || get(pages::redirect_without_slash);
    Router::new()
        .route("/", page(Page::Start))
        .route("/login", page(Page::Login))
        .route("/login/", without_slash())
        .route(REDIRECT_PATH, page(Page::SignInCallback))
        .route(&format!("{REDIRECT_PATH}/"), without_slash())
        .route("/dashboard", get(pages::redirect_to_start))
        .route("/dashboard/", get(pages::redirect_to_start))
        .route(pages::START_PATH, page(Page::Start))
        .route("/dashboard/remote-cli/", without_slash())
        .route(
            "/dashboard/remote-cli/auth",
            page(Page::Session).layer(map_response_with_state(app.clone(), embedding::permit_embedding)),
        )
        .route("/dashboard/remote-cli/auth/", without_slash())
        .route(pages::DESKTOP_PAGE, page(Page::Desktop))
        .route("/admin", page(Page::Admin))
        .route("/admin/{*path}", page(Page::Admin))
        .route(&format!("{DEMO_PATH}/{{*path}}"), get(demo_pages::answer).post(demo_pages::answer))
        .route("/favicon.ico", get(pages::get_favicon))
        .route("/assets/{*path}", get(pages::get_asset))
}

/// Compresses responses. Only for routes whose responses have no secret: the size of a compressed response that contains a secret and
/// text of an attacker reveals the secret (BREACH).
fn compression() -> CompressionLayer {
    CompressionLayer::new().gzip(true)
}

/// Over https, browsers must not use http later. Not for names below this one: they may be other services.
fn strict_transport_security(app: &App) -> Option<SetResponseHeaderLayer<HeaderValue>> {
    app.auth.addresses.is_https().then(|| response_header(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"))
}

/// The routes for the agent in a machine, which has a larger body limit.
fn agent_api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(agent::accept_credential))
        .routes(routes!(agent::receive_events))
        .routes(routes!(agent_auth::get_agent_session))
}

/// The routes with which browsers sign in: strangers use them, so their bodies are small.
fn sign_in_api() -> OpenApiRouter<App> {
    let log_in = OpenApiRouter::new().routes(routes!(login::log_in)).layer(DefaultBodyLimit::max(LOGIN_BYTES_MAX));
    let oidc = OpenApiRouter::new()
        .routes(routes!(oidc::begin_oidc_sign_in))
        .routes(routes!(oidc::begin_oidc_confirmation))
        .routes(routes!(oidc::finish_oidc))
        .layer(DefaultBodyLimit::max(OIDC_ANSWER_BYTES_MAX));
    log_in.merge(oidc).routes(routes!(oidc::get_oidc_provider))
}

/// The routes whose answers have no secret.
fn compressed_api() -> OpenApiRouter<App> {
    let providers = OpenApiRouter::new().routes(routes!(providers::list_providers)).layer(from_fn(add_entity_tag));
    providers.merge(OpenApiRouter::new().routes(routes!(metrics::get_metrics))).layer(compression())
}

/// The routes for the use of stored credentials.
fn credential_use_api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(credential_uses::get_credential))
        .routes(routes!(credential_uses::start_credential_use))
        .routes(routes!(exec_socket::open_exec_socket))
        .routes(routes!(credential_uses::get_screen))
}

/// The routes for backends, users and operators.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(document::Document::openapi())
        .merge(sign_in_api())
        .merge(overview::operator_api())
        .routes(routes!(start_session::start_session))
        .routes(routes!(session::get_session))
        .routes(routes!(session::list_or_watch_events))
        .routes(routes!(session::record_heartbeat))
        .routes(routes!(session::cancel_session))
        .routes(routes!(session::restart_session))
        .routes(routes!(session::list_session_credentials))
        .routes(routes!(diagnosis::get_diagnosis))
        .routes(routes!(session_list::list_sessions))
        .routes(routes!(session_list::watch_sessions))
        .routes(routes!(consent::get_consent, consent::give_consent))
        .routes(routes!(tickets::create_ticket))
        .routes(routes!(proxy_faults::report_proxy_fault))
        .routes(routes!(invitations::invite_helper))
        .routes(routes!(helpers::list_helpers))
        .routes(routes!(helpers::end_helper))
        .routes(routes!(sign_in::get_sign_in))
        .routes(routes!(sign_in::open_url))
        .routes(routes!(sign_in::submit_paste))
        .routes(routes!(sign_in::submit_code))
        .routes(routes!(sign_in::change_method))
        .routes(routes!(sign_in::type_text))
        .routes(routes!(credentials::list_credentials))
        .merge(credential_use_api())
        .routes(routes!(credentials::lease_credential))
        .routes(routes!(credentials::delete_credential))
        .merge(compressed_api())
        .routes(routes!(login::get_current_caller))
        .routes(routes!(login::create_login_link))
        .routes(routes!(tokens::list_tokens))
        .routes(routes!(tokens::create_token))
        .routes(routes!(tokens::rotate_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(browsers::list_browsers))
        .routes(routes!(browsers::sign_browser_out))
        .routes(routes!(browsers::log_out))
        .routes(routes!(health::get_health))
        .routes(routes!(erase::erase_user))
        .routes(routes!(keys::list_keys))
        .routes(routes!(keys::rotate_keys))
        .routes(routes!(keys::retire_key))
        .routes(routes!(audit::list_audit_records))
        .routes(routes!(audit::watch_audit_records))
        .routes(routes!(audit::verify_audit_trail))
}

/// The OpenAPI document of all routes, without those of pages.
#[cfg(test)]
fn document_of_all_routes() -> document::FinishedDocument {
    document::finish(&api().merge(agent_api()).into_openapi())
}

/// Puts the [`ClientAddress`] into the request's extensions and limits how often clients that cannot be identified may ask.
async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>().copied() else {
        return ErrorResponse::from(Problem::Unauthenticated).into_response();
    };
    let address = app.trusted_proxies.client_address(peer, request.headers());
    request.extensions_mut().insert(address);
    note_peer(address);
    if let Err(early) = app.rates.check_identification(address, request.headers()) {
        return early.into_response();
    }
    let attempt = IdentificationAttempt::of(&request);
    let response = answer_as_caller(&app, peer, address, request, next).await;
    if response.status() == StatusCode::UNAUTHORIZED && attempt == IdentificationAttempt::Made {
        app.rates.record_failure(address);
    }
    response
}

/// Whether a request claims to be a caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdentificationAttempt {
    Made,
    NotMade,
}

impl IdentificationAttempt {
    fn of(request: &Request) -> Self {
        let names = [header::AUTHORIZATION, header::COOKIE, header::SEC_WEBSOCKET_PROTOCOL];
        let paths = ["/api/login", "/api/oidc/callback"];
        let is_made =
            names.iter().any(|name| request.headers().contains_key(name)) || paths.contains(&request.uri().path());
        if is_made { Self::Made } else { Self::NotMade }
    }
}

/// Identifies the caller, requires that it may do what the route does, and puts the [`Caller`] and the action into the request's extensions.
/// Handlers and extractors check the resource. The body is limited, and not read before all that.
async fn answer_as_caller(app: &App, peer: Peer, address: ClientAddress, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let session = path.strip_prefix("/api/auth/session/").and_then(|rest| rest.split('/').next());
    let session: Option<SessionId> = session.and_then(|id| id.parse().ok());
    let method = as_get(request.method());
    let caller = auth::identify_caller(&app.auth, peer, method, request.headers(), session.as_ref()).await;
    if let Ok(caller) = &caller {
        note_actor(auth::credential_kind(peer, request.headers()), &caller.id, Some(&caller.role));
        app.rates.record_success(request.headers());
    }
    let owner = body_owner(app, caller.as_ref().ok(), request.headers());
    if let Some(connection) = request.extensions().get::<Connection>()
        && let Err(reason) = begin_request(connection, &owner)
    {
        return ErrorResponse(ApiError::new(Problem::TooManyConnections, reason.to_string())).into_response();
    }
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = FoundRoute::of(request.method(), pattern);
    let class = route.class(request.method(), request.headers());
    if let Err(early) = app.rates.check(class, caller.as_ref().ok(), address) {
        return early.into_response();
    }
    let (caller, action) = match admit(route, caller) {
        Ok(admitted) => admitted,
        Err(error) => return ErrorResponse(error).into_response(),
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    if let Some(action) = action {
        request.extensions_mut().insert(RequestedAction(action));
    }
    let limits = &app.limits.http;
    let (request, held) = limit_body(request, limits, app.body_budgets.of(owner, limits));
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let pattern = pattern.as_ref().map(MatchedPath::as_str);
    let response = match route::route(app, peer, session.as_ref(), pattern, request).await {
        route::Routed::Here(request) => next.run(request).await,
        route::Routed::Answered(response) => response,
    };
    drop(held);
    response
}

/// Whose budget holds the bytes of the request's body.
fn body_owner(app: &App, caller: Option<&Caller>, headers: &HeaderMap) -> BodyOwner {
    if let Some(caller) = caller {
        return BodyOwner::Caller(caller.id.clone());
    }
    let agent =
        auth::bearer_token(headers).and_then(|token| app.sessions.by_agent_token(&Sha256Hex::of_secret(&token)));
    agent.map_or(BodyOwner::Strangers, |session| BodyOwner::Agent(session.id.clone()))
}

/// Counts the connection as its client's.
fn begin_request(connection: &Connection, owner: &BodyOwner) -> Result<(), TooManyConnections> {
    match owner {
        BodyOwner::Caller(caller) => connection.authenticate(caller),
        BodyOwner::Strangers => connection.begin_strangers_request()?,
        BodyOwner::Agent(_) | BodyOwner::Machine(_) => {}
    }
    Ok(())
}

/// Decides from its route and its caller whether a request reaches its handler.
fn admit(route: FoundRoute, caller: Result<Caller, ApiError>) -> Result<(Option<Caller>, Option<Action>), ApiError> {
    match (route, caller) {
        (_, Err(error)) if error.problem == Problem::PeerNotPermitted => Err(error),
        (FoundRoute::Listed(Route { access: Access::Public(_) | Access::Ticket, .. }), Ok(caller)) => {
            Ok((Some(caller), None))
        }
        (FoundRoute::Listed(Route { access: Access::Public(_) | Access::Ticket, .. }), Err(error)) => {
            // The route needs no caller, or a ticket identifies it.
            error.log_fault();
            Ok((None, None))
        }
        (FoundRoute::OtherMethod { is_public: true }, _) => Err(Problem::MethodNotAllowed.into()),
        (_, Err(error)) => Err(error),
        (FoundRoute::Listed(Route { access: Access::Caller(action), .. }), Ok(caller)) => {
            caller.require(*action, Resource::Server)?;
            Ok((Some(caller), Some(*action)))
        }
        (FoundRoute::OtherMethod { is_public: false }, Ok(_)) => Err(Problem::MethodNotAllowed.into()),
        (FoundRoute::Unlisted, Ok(_)) => Err(Problem::PathNotFound.into()),
    }
}

/// Sets a response header that the handler has not set.
fn response_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

#[expect(clippy::needless_pass_by_value, reason = "the layer requires this signature")]
fn panic_response(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(outcome = "panic", cause = text.unwrap_or("unknown"), "request handler panicked");
    ErrorResponse::from(Problem::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Method;

    #[test]
    fn a_route_that_is_not_listed_reaches_no_handler() {
        let operator = || {
            let (id, role) = (anteroom_wire::CallerId::from_parts(1, [1; 10]), anteroom_store::Role::Operator);
            let kind = anteroom_store::CallerKind::ApiToken;
            Caller { account: id.clone(), id, kind, scopes: role.scopes(), role, name: String::new() }
        };
        for (method, pattern, problem) in [
            (Method::GET, Some("/api/brother"), Problem::PathNotFound),
            (Method::GET, None, Problem::PathNotFound),
            (Method::PUT, Some("/api/sessions"), Problem::MethodNotAllowed),
            (Method::OPTIONS, Some("/api/sessions"), Problem::MethodNotAllowed),
        ] {
            let route = FoundRoute::of(&method, pattern);
            assert_eq!(admit(route, Ok(operator())).unwrap_err().problem, problem, "{method} {pattern:?}");
            let anonymous = admit(route, Err(Problem::Unauthenticated.into())).unwrap_err();
            assert_eq!(anonymous.problem, Problem::Unauthenticated, "{method} {pattern:?}");
        }
        assert!(admit(FoundRoute::of(&Method::HEAD, Some("/api/sessions")), Ok(operator())).is_ok());
    }

    /// `web/openapi.json` is the source of the pages' API types (`npm run api` in `web/`). `ANTEROOM_WRITE_DOCS=1` rewrites it.
    #[test]
    fn web_openapi_json_matches_the_routes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/openapi.json");
        let document = document_of_all_routes();
        let paths = document.paths.as_object().unwrap().values();
        let operations: Vec<_> = paths
            .flat_map(|path| path.as_object().unwrap().values().map(|operation| &operation["operationId"]))
            .collect();
        let unique: std::collections::HashSet<_> = operations.iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(unique.len(), operations.len(), "operation ids are unique: {operations:?}");
        let wanted = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == wanted,
            "web/openapi.json differs from the routes: run this test with ANTEROOM_WRITE_DOCS=1, then `npm run api` in web/"
        );
    }
}
