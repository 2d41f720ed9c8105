//! Authenticates a request: by its connection, its bearer token or its cookies.

use super::{
    Auth, browsers,
    cookie_header::{self, OPERATOR_COOKIE, VIEWER_COOKIE_PREFIX},
};
use crate::peer::Peer;
use anteroom_controller::{
    api_error::{ApiError, chain},
    caller::Caller,
    unix_time,
};
use anteroom_store::{CallerKind, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem, Secret, SessionId};
use axum::http::{HeaderMap, Method, header};

/// Required on requests that are authenticated by a cookie; its value is the key of the browser. A cross-site form cannot send it.
pub const CSRF_HEADER: &str = "x-anteroom";

/// Authenticates the request. `session` is the one in its path: it selects the viewer cookie.
///
/// # Errors
/// No or unknown credentials, or a request that a page of another site may have made.
pub async fn identify_caller(
    auth: &Auth,
    peer: Peer,
    method: &Method,
    headers: &HeaderMap,
    session: Option<&SessionId>,
) -> Result<Caller, ApiError> {
    if let Peer::Refused(refusal) = peer {
        return Err(ApiError::new(Problem::PeerNotPermitted, refusal.to_string()));
    }
    if peer.is_operator() {
        return Ok(Caller::command_line());
    }
    if let Some(token) = bearer_token(headers) {
        let found = find_by_secret(auth, CallerKind::ApiToken, token.expose()).await?;
        let detail = "the token is not accepted: it is unknown, was revoked or has expired";
        return found.ok_or_else(|| ApiError::new(Problem::Unauthenticated, detail));
    }
    let cookies = cookie_header::parse_cookie_header(headers, auth.addresses.is_https());
    for (name, secret) in &cookies {
        if *name == OPERATOR_COOKIE
            && let Some(caller) = find_by_secret(auth, CallerKind::BrowserCookie, secret).await?
        {
            require_same_site(auth, method, headers)?;
            if browsers::is_own_browser(auth, headers, &caller.id).await? {
                return Ok(caller);
            }
        }
    }
    for (name, secret) in &cookies {
        // The cookie of a session is no cookie of another session.
        let Some(of_session) = name.strip_prefix(VIEWER_COOKIE_PREFIX) else { continue };
        if session.is_some_and(|session| session.as_str() != of_session) {
            continue;
        }
        let found = find_by_secret(auth, CallerKind::ViewerCookie, secret).await?;
        let own = found.filter(|caller| caller.role.session().is_some_and(|session| session.as_str() == of_session));
        if let Some(caller) = own {
            require_same_site(auth, method, headers)?;
            if browsers::is_own_browser(auth, headers, &caller.id).await? {
                return Ok(caller);
            }
        }
    }
    Err(ApiError::new(Problem::Unauthenticated, missing_secret(headers, cookies.is_empty())))
}

/// Why a request without an accepted secret has none.
fn missing_secret(headers: &HeaderMap, has_no_cookie: bool) -> &'static str {
    let authorizations = headers.get_all(header::AUTHORIZATION).into_iter().count();
    match (authorizations, has_no_cookie) {
        (0, true) => "the request has neither the header `Authorization: Bearer TOKEN` nor a cookie of this server",
        (0, false) => "the cookie is not accepted: it is of another browser or page, was ended or has expired",
        (1, _) => "the header Authorization is not of the form `Bearer TOKEN`",
        (2.., _) => "the request has more than one header Authorization",
    }
}

/// The caller with this secret, which must be of this kind.
async fn find_by_secret(auth: &Auth, kind: CallerKind, secret: &str) -> Result<Option<Caller>, StoreError> {
    if !kind.secret_prefix().is_some_and(|prefix| secret.starts_with(prefix)) {
        return Ok(None);
    }
    let hash = Sha256Hex::of_bytes(secret.as_bytes());
    let now = unix_time::now_unix_ms();
    let Some(row) = auth.store.find_caller_by_secret(kind, &hash, now).await? else { return Ok(None) };
    if row.is_use_to_be_recorded(now) {
        record_use(auth, &row.id, now);
    }
    Ok(Some(row.into()))
}

/// Records the use without delaying the request. A use that cannot be written is not recorded.
fn record_use(auth: &Auth, id: &CallerId, now: u64) {
    let Some(recording) = auth.recorded_uses.begin(id) else { return };
    let (store, id) = (auth.store.clone(), id.clone());
    auth.tasks.spawn(async move {
        if let Err(error) = store.record_caller_use(&id, now).await {
            tracing::debug!(caller = %id, error = %chain(&error), "the use of a caller was not recorded");
        }
        drop(recording);
    });
}

/// How the request's caller was identified: `local`, `token` or `cookie`.
pub fn credential_kind(peer: Peer, headers: &HeaderMap) -> &'static str {
    if peer.is_operator() {
        "local"
    } else if headers.contains_key(header::AUTHORIZATION) {
        "token"
    } else {
        "cookie"
    }
}

/// The bearer token of the request, if it has one. Of several `Authorization` headers none counts: a reverse proxy may have checked another.
pub fn bearer_token(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer "))?;
    Some(Secret::new(token.trim().to_owned()))
}

/// Browsers send cookies with requests of any page, so a request that changes something must come from a page of this server.
fn require_same_site(auth: &Auth, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    require_own_origin(auth, headers)?;
    if !method.is_safe() && !headers.contains_key(CSRF_HEADER) {
        let detail = format!("a request with a cookie must carry the header {CSRF_HEADER}");
        return Err(ApiError::new(Problem::CrossOrigin, detail));
    }
    Ok(())
}

/// As [`require_own_origin`], unless the caller sent a bearer token: no page of another site can send one, and some WebSocket clients of
/// programs send the address that they connect to as their origin.
///
/// # Errors
/// It is the origin of another site.
pub fn require_own_origin_or_token(auth: &Auth, headers: &HeaderMap, caller: Option<&Caller>) -> Result<(), ApiError> {
    match caller {
        Some(caller) if caller.kind == CallerKind::ApiToken => Ok(()),
        _ => require_own_origin(auth, headers),
    }
}

/// Requires that the `Origin` header, if there is one, is this server's.
///
/// # Errors
/// It is the origin of another site.
pub fn require_own_origin(auth: &Auth, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    if origins.all(|origin| auth.addresses.is_own_origin(origin.as_bytes())) {
        return Ok(());
    }
    let detail = format!("the Origin header is not the address that links begin with{}", auth.addresses.hint());
    Err(ApiError::new(Problem::CrossOrigin, detail))
}
