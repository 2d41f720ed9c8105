//! Records requests in the audit trail: those of [`ROUTES`](super::routes::ROUTES), failed identification, and
//! what a known caller was refused.

use super::{route::AnsweredByOwner, routes::FoundRoute};
use crate::app::App;
use anteroom_audit::{Action, Actor, Entry, OK, Subject};
use anteroom_controller::{audit::RequestScope, random};
use anteroom_wire::{MachineId, Problem, SessionId, time::to_millis};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The target of the access log.
const ACCESS_TARGET: &str = "anteroom_access";

/// The header of a response with the id of its request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the request in its scope and records it. A record is written before the response is sent.
pub(super) async fn record_request(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let action = FoundRoute::of(&method, path.as_deref()).recorded_action();
    let scope = new_scope(&request, path.as_deref());
    let id = HeaderValue::from_str(&scope.request);
    let began = Instant::now();
    let (mut response, scope) = scope.run(next.run(request)).await;
    let took = began.elapsed();
    app.http_metrics.observe(&method, path.as_deref(), response.status(), took);
    log_access(&scope, &method, path.as_deref(), &response, took);
    let route = format!("{method} {}", path.as_deref().unwrap_or("(no route)"));
    let is_recorded = response.extensions().get::<AnsweredByOwner>().is_some();
    if let Some(entry) = entry(scope, action, route, &response).filter(|_| !is_recorded) {
        app.audit.record(entry).await;
    }
    if let Ok(id) = id
        && !(is_recorded && response.headers().contains_key(&REQUEST_ID))
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// One line for each request; of strangers, and of what persons and machines are refused, only at the level `debug`. The path is not in it, only its route: a stranger chooses the path.
fn log_access(scope: &RequestScope, method: &Method, route: Option<&str>, response: &Response, took: Duration) {
    let (status, duration_ms) = (response.status().as_u16(), to_millis(took));
    let problem = response.extensions().get::<Problem>().map(|problem| problem.code());
    // The id of a session that there is not would give it log lines.
    let is_id = |session: &&str| status != 404 && session.parse::<SessionId>().is_ok();
    let (route, session) = (route.unwrap_or("(no route)"), scope.subject.session.as_deref().filter(is_id));
    let (actor, peer) = (scope.actor.id.as_deref(), scope.peer.as_deref());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: ACCESS_TARGET, outcome = "request", request = scope.request, %method, route, status, duration_ms,
                problem, session, actor, peer, "request answered"
            )
        };
    }
    // Neither strangers nor the persons and machines of sessions may turn the log files over: lines with a session that is really theirs
    // have a budget.
    let is_shown = match scope.actor.kind.as_str() {
        "token" | "local" => true,
        _ => actor.is_some() && session.is_some() && status < 400,
    };
    if is_shown { line!(info) } else { line!(debug) }
}

/// A scope in which the caller is not known yet. A machine's channel identifies the machine.
fn new_scope(request: &Request, path: Option<&str>) -> RequestScope {
    let machine = request.extensions().get::<MachineId>();
    let actor = match machine {
        Some(machine) => Actor { id: Some(machine.to_string()), kind: "agent".to_owned(), ..Actor::default() },
        None => Actor::stranger(),
    };
    RequestScope {
        actor,
        peer: machine.map(|machine| format!("machine:{machine}")),
        request: hex::encode(random::random_bytes::<8>()),
        subject: path.map(|path| subject_in_path(path, request.uri().path())).unwrap_or_default(),
        details: BTreeMap::new(),
        action: None,
    }
}

/// The session, credential or token in a path. It is what the caller asked for; it need not exist.
fn subject_in_path(route: &str, path: &str) -> Subject {
    let id_after = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.split('/').next()).map(str::to_owned);
    if route.starts_with("/api/auth/session/{id}") {
        Subject { session: id_after("/api/auth/session/"), ..Subject::default() }
    } else if route.starts_with("/api/credentials/{id}") {
        Subject { credential: id_after("/api/credentials/"), ..Subject::default() }
    } else if route.starts_with("/api/tokens/{id}") {
        Subject { caller: id_after("/api/tokens/"), ..Subject::default() }
    } else {
        Subject::default()
    }
}

/// What is recorded about a request, if anything.
fn entry(scope: RequestScope, action: Option<Action>, route: String, response: &Response) -> Option<Entry> {
    let status = response.status();
    let problem = response.extensions().get::<Problem>().map(|problem| problem.code());
    // An error without a problem comes from a library, for example from the limit of a body.
    let outcome = match problem {
        Some(code) => code,
        None if status.is_client_error() || status.is_server_error() => "failed",
        None => OK,
    };
    let is_refused = status == StatusCode::FORBIDDEN || problem == Some(Problem::NotOwner.code());
    let is_unidentified = status == StatusCode::UNAUTHORIZED || is_identification(problem);
    let is_known = scope.actor.id.is_some();
    match scope.action.or(action) {
        _ if !is_known && (is_refused || is_unidentified) => {
            // A stranger chooses the path, so only its route is recorded.
            let entry = Entry { subject: Subject::default(), ..scope.entry(Action::IdentificationFailed, outcome) };
            Some(entry.with_detail("route", route))
        }
        Some(action) => Some(scope.entry(action, outcome)),
        None if is_refused => Some(scope.entry(Action::AccessRefused, outcome).with_detail("route", route)),
        None => None,
    }
}

/// Whether the problem is that the caller is not known. Browsers get it as the close code of a WebSocket that was accepted.
fn is_identification(problem: Option<&str>) -> bool {
    [Problem::Unauthenticated, Problem::TicketUsed, Problem::WrongAgentToken]
        .iter()
        .any(|known| problem == Some(known.code()))
}
