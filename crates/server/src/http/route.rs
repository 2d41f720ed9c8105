//! Requests that name a session of another host of the cluster go there, whole; that host checks the caller.

use super::{error_response::ErrorResponse, oidc, request_body::read_body};
use crate::{
    app::App,
    peer::Peer,
    peers::{FromHost, Handshake, NOT_OWNER, Peers, Unreachable},
};
use anteroom_controller::{api_error::ApiError, oidc::host_of_state, unix_time::now_unix_ms};
use anteroom_wire::{HostId, Problem, SessionId};
use axum::{
    body::Body,
    extract::{FromRequestParts, Request, WebSocketUpgrade},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::sync::Arc;

/// The paths of one session.
const SESSION_PATH: &str = "/api/auth/session/{id}";
/// The page of its desktop, which any host has.
const STATIC_PAGE: &str = "/api/auth/session/{id}/novnc";

/// An answer of another host: that host has recorded it. An extension of the response.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredByOwner;

/// Where a request is answered.
pub(super) enum Routed {
    /// Here.
    Here(Request),
    /// By another host, or not at all.
    Answered(Response),
}

/// Passes the request on if it names a session that another host holds.
pub(super) async fn route(
    app: &App,
    peer: Peer,
    session: Option<&SessionId>,
    pattern: Option<&str>,
    request: Request,
) -> Routed {
    if pattern == Some(oidc::CALLBACK_PATH) {
        return route_answer(app, peer, request).await;
    }
    let of_session = pattern.is_some_and(|pattern| pattern.starts_with(SESSION_PATH) && pattern != STATIC_PAGE);
    let (Some(peers), Some(session)) = (app.peers.get(), session.filter(|_| of_session)) else {
        return Routed::Here(request);
    };
    if app.sessions.get(session).is_some() {
        return Routed::Here(request);
    }
    let is_passed_on = request.extensions().get::<FromHost>().is_some();
    let remembered = peers.remembered_owner(session).filter(|_| !is_passed_on);
    let owner = match remembered {
        Some(host) => Some(host),
        None => match find_owner(app, session).await {
            Ok(owner) => owner,
            Err(error) => return Routed::Answered(ErrorResponse(error).into_response()),
        },
    };
    match owner {
        None => Routed::Here(request),
        // One hop at most: the host that passed it on looks once more.
        Some(_) if is_passed_on => Routed::Answered(not_owner()),
        Some(host) => Routed::Answered(pass_on(app, peers, peer, session, host, request).await),
    }
}

/// Passes the answer of the OpenID provider on to the host that began the sign-in. If that does not answer, this host says that the
/// sign-in must begin again.
async fn route_answer(app: &App, peer: Peer, request: Request) -> Routed {
    let Some(peers) = app.peers.get().filter(|_| request.extensions().get::<FromHost>().is_none()) else {
        return Routed::Here(request);
    };
    let (mut parts, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return Routed::Answered(ErrorResponse(error).into_response()),
    };
    let state = serde_json::from_slice::<AnswerState>(&body).ok();
    let host = state.and_then(|answer| host_of_state(&answer.state));
    if let Some(host) = host.filter(|host| peers.tls().host() != host && peers.directory.get(host).is_some())
        && let Ok(mut response) = send(app, peers, peer, &host, &mut parts, &body).await
    {
        response.extensions_mut().insert(AnsweredByOwner);
        return Routed::Answered(response);
    }
    Routed::Here(Request::from_parts(parts, Body::from(body)))
}

/// The part of an answer that names the sign-in.
#[derive(serde::Deserialize)]
struct AnswerState {
    state: String,
}

/// The other host that holds the session. `None`: this one, or none does.
async fn find_owner(app: &App, session: &SessionId) -> Result<Option<HostId>, ApiError> {
    let row = app.store.get_session(session).await?;
    let holder = row.filter(|row| row.is_active()).and_then(|row| row.holder);
    let own = app.store.holder().map(|own| own.host);
    Ok(holder.map(|holder| holder.host).filter(|host| own.as_ref() != Some(host)))
}

fn not_owner() -> Response {
    let mut response = ErrorResponse::from(Problem::OwnerMoved).into_response();
    response.headers_mut().insert(NOT_OWNER, HeaderValue::from_static("1"));
    response
}

async fn pass_on(
    app: &App,
    peers: &Arc<Peers>,
    peer: Peer,
    session: &SessionId,
    host: HostId,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    // The routes of a session have small bodies: the whole one can be sent to another host.
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return ErrorResponse(error).into_response(),
    };
    peers.remember_owner(session, host.clone());
    let mut answered = send(app, peers, peer, &host, &mut parts, &body).await;
    if answered.as_ref().is_ok_and(is_from_other) {
        peers.forget_owner(session);
        match find_owner(app, session).await {
            Ok(Some(moved)) if moved != host => {
                answered = send(app, peers, peer, &moved, &mut parts, &body).await;
                peers.remember_owner(session, moved);
            }
            Ok(_) => return ErrorResponse::from(Problem::OwnerMoved).into_response(),
            Err(error) => return ErrorResponse(error).into_response(),
        }
    }
    match answered {
        Ok(mut response) => {
            response.headers_mut().remove(NOT_OWNER);
            response.extensions_mut().insert(AnsweredByOwner);
            response
        }
        Err(silent) => {
            peers.forget_owner(session);
            unreachable_response(app, peers, &silent, parts).await
        }
    }
}

fn is_from_other(response: &Response) -> bool {
    response.status() == StatusCode::MISDIRECTED_REQUEST && response.headers().contains_key(NOT_OWNER)
}

async fn send(
    app: &App,
    peers: &Arc<Peers>,
    peer: Peer,
    host: &HostId,
    parts: &mut Parts,
    body: &Bytes,
) -> Result<Response, Unreachable> {
    let fence_after_s = fence_after_s(app);
    let reasons = Arc::clone(peers);
    let reason = Arc::new(move |silent: &Unreachable| {
        let outlook = silent.outlook(&reasons, fence_after_s, now_unix_ms());
        format!("{}: {}", Problem::HostUnreachable.code(), outlook.sentence)
    });
    let sent = peers.send(host, parts, body, peer, &app.auth.addresses, reason).await?;
    Ok(sent.unwrap_or_else(|| ErrorResponse::from(Problem::Malformed).into_response()))
}

fn fence_after_s(app: &App) -> u64 {
    app.config().cluster.times().map_or(0, |times| times.fence_after_ms() / 1_000)
}

/// Says which host does not answer and what happens next: a browser's WebSocket is accepted and closed, so that its page can read it.
async fn unreachable_response(app: &App, peers: &Peers, silent: &Unreachable, mut parts: Parts) -> Response {
    if app.stop.is_cancelled() {
        return ErrorResponse::from(Problem::ShuttingDown).into_response();
    }
    let outlook = silent.outlook(peers, fence_after_s(app), now_unix_ms());
    let is_browsers_socket = parts.headers.contains_key(header::ORIGIN) && Handshake::of(&parts).is_some();
    if is_browsers_socket && let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, app).await {
        let problem = Problem::HostUnreachable;
        let mut response = anteroom_tunnel::reject_websocket_because(
            upgrade,
            &app.limits.tunnel,
            &app.tasks,
            problem.close_code(),
            &format!("{}: {}", problem.code(), outlook.sentence),
        );
        response.extensions_mut().insert(problem);
        return response;
    }
    let mut response = ErrorResponse(silent.error(&outlook)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(outlook.retry_after_s));
    response
}
