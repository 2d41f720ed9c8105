//! Authenticates a request: by its connection, its bearer token or its cookies.

use super::cookies::{self, OPERATOR_COOKIE, VIEWER_COOKIE};
use crate::{api_error::ApiError, app::App, clock, peer::Peer};
use anteroom_store::{Role, SessionRow, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem, Secret, SessionId};
use axum::http::{HeaderMap, Method, header};

/// A request that changes something and is authenticated by a cookie must carry this header: forms cannot send it.
pub const GUARD_HEADER: &str = "x-anteroom";

/// A known caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its id.
    pub id: CallerId,
    /// What it may.
    pub role: Role,
}

impl Caller {
    /// Whether it may see and use the session.
    ///
    /// # Errors
    /// It is somebody else's.
    pub fn may_use(&self, row: &SessionRow) -> Result<(), ApiError> {
        let mine = match &self.role {
            Role::Operator => true,
            Role::Backend => row.owner == self.id,
            Role::Viewer(session) => *session == row.id,
        };
        if mine { Ok(()) } else { Err(Problem::NotOwner.into()) }
    }

    /// Whether it may see all that `owner` owns, secrets included.
    ///
    /// # Errors
    /// It may not.
    pub fn may_own(&self, owner: &CallerId) -> Result<(), ApiError> {
        let mine = match &self.role {
            Role::Operator => true,
            Role::Backend => owner == &self.id,
            Role::Viewer(_) => false,
        };
        if mine { Ok(()) } else { Err(Problem::NotOwner.into()) }
    }

    /// Whether it may start sessions and list things.
    ///
    /// # Errors
    /// It is a viewer.
    pub fn may_start(&self) -> Result<(), ApiError> {
        match &self.role {
            Role::Operator | Role::Backend => Ok(()),
            Role::Viewer(_) => Err(ApiError::new(Problem::NotOwner, "this link opens one session and nothing else")),
        }
    }

    /// Whether it may do what only an operator may.
    ///
    /// # Errors
    /// It is not an operator.
    pub fn may_operate(&self) -> Result<(), ApiError> {
        match &self.role {
            Role::Operator => Ok(()),
            Role::Backend | Role::Viewer(_) => Err(ApiError::new(Problem::NotOwner, "only an operator may do this")),
        }
    }
}

/// Who sends this request. `session` is the one in its path: it chooses among viewers' cookies.
///
/// # Errors
/// Nobody, somebody unknown, or a request that another site's page may have made.
pub async fn identify(
    app: &App,
    peer: Peer,
    method: &Method,
    headers: &HeaderMap,
    session: Option<&SessionId>,
) -> Result<Caller, ApiError> {
    if peer.is_operator() {
        return Ok(Caller { id: app.local_operator.clone(), role: Role::Operator });
    }
    if let Some(token) = bearer(headers) {
        return by_token(app, token.expose()).await?.ok_or_else(|| Problem::Unauthenticated.into());
    }
    let cookies = cookies::all(headers);
    let wanted = session.map(|session| format!("{VIEWER_COOKIE}{session}"));
    let operator = cookies.iter().filter(|(name, _)| *name == OPERATOR_COOKIE);
    let viewer = cookies.iter().filter(|(name, _)| match &wanted {
        Some(wanted) => name == wanted,
        None => name.starts_with(VIEWER_COOKIE),
    });
    for (_, token) in operator.chain(viewer) {
        if let Some(caller) = by_token(app, token).await? {
            same_site(app, method, headers)?;
            return Ok(caller);
        }
    }
    Err(Problem::Unauthenticated.into())
}

async fn by_token(app: &App, token: &str) -> Result<Option<Caller>, StoreError> {
    let found = app.store.caller_by_token(&Sha256Hex::of(token.as_bytes()), clock::now()).await?;
    Ok(found.map(|row| Caller { id: row.id, role: row.role }))
}

/// The bearer token, if there is one.
pub fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer "))?;
    Some(Secret::new(token.trim().to_owned()))
}

/// A cookie is sent by the browser whoever's page asks; so what changes something must come from a page of ours.
fn same_site(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    own_origin(app, headers)?;
    if !method.is_safe() && !headers.contains_key(GUARD_HEADER) {
        let detail = format!("a signed-in page sends the header {GUARD_HEADER}");
        return Err(ApiError::new(Problem::CrossOrigin, detail));
    }
    Ok(())
}

/// The `Origin`, where there is one, is ours.
///
/// # Errors
/// It is another site's.
pub fn own_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let own = origin == app.base_url || (!host.is_empty() && authority == host);
    if own { Ok(()) } else { Err(Problem::CrossOrigin.into()) }
}
