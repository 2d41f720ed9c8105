//! Authenticates a request: by its connection, its bearer token or its cookies.

use super::{
    Auth,
    cookie_header::{self, OPERATOR_COOKIE, VIEWER_COOKIE_PREFIX},
};
use crate::peer::Peer;
use anteroom_controller::{api_error::ApiError, caller::Caller, unix_time};
use anteroom_store::{Role, Sha256Hex, StoreError};
use anteroom_wire::{Problem, Secret, SessionId};
use axum::http::{HeaderMap, Method, header};

/// Required on requests that change something and are authenticated by a cookie: a cross-site form cannot send it.
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
        return Ok(Caller { id: auth.local_operator.clone(), role: Role::Operator });
    }
    if let Some(token) = bearer_token(headers) {
        return find_by_token(auth, token.expose()).await?.ok_or_else(|| Problem::Unauthenticated.into());
    }
    let cookies = cookie_header::parse_cookie_header(headers);
    let session_cookie = session.map(|session| format!("{VIEWER_COOKIE_PREFIX}{session}"));
    let operator = cookies.iter().filter(|(name, _)| *name == OPERATOR_COOKIE);
    let viewer = cookies.iter().filter(|(name, _)| match &session_cookie {
        Some(session_cookie) => name == session_cookie,
        None => name.starts_with(VIEWER_COOKIE_PREFIX),
    });
    for (_, token) in operator.chain(viewer) {
        if let Some(caller) = find_by_token(auth, token).await? {
            require_same_site(auth, method, headers)?;
            return Ok(caller);
        }
    }
    Err(Problem::Unauthenticated.into())
}

async fn find_by_token(auth: &Auth, token: &str) -> Result<Option<Caller>, StoreError> {
    let found =
        auth.store.find_caller_by_token(&Sha256Hex::of_bytes(token.as_bytes()), unix_time::now_unix_ms()).await?;
    Ok(found.map(|row| Caller { id: row.id, role: row.role }))
}

/// The bearer token of the request, if it has one.
pub fn bearer_token(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
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

/// Requires that the `Origin` header, if there is one, is this server's.
///
/// # Errors
/// It is the origin of another site.
pub fn require_own_origin(auth: &Auth, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    if origins.all(|origin| auth.addresses.is_own_origin(origin.as_bytes())) {
        return Ok(());
    }
    Err(ApiError::new(Problem::CrossOrigin, "the Origin header is not the address that links begin with"))
}
