//! Who is asking, and what they may.
//!
//! | caller | shows | may |
//! |---|---|---|
//! | operator | the cookie from the printed link, or the Unix socket as the same user | everything |
//! | backend | `Authorization: Bearer` API token | what it started |
//! | viewer | the cookie from a session's link | that session, but not its secret |

use crate::{app::App, clock, peer::Peer, random, refusal::Refusal};
use anteroom_store::{Grant, NewCaller, NewPass, Role, SessionRow, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem, Secret, SessionId};
use axum::http::{HeaderMap, HeaderValue, Method, header};

/// A request that changes something and is authenticated by a cookie must carry this header: forms cannot send it.
pub const GUARD_HEADER: &str = "x-anteroom";
const OPERATOR_COOKIE: &str = "anteroom";
const VIEWER_COOKIE: &str = "anteroom_view_";

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
    pub fn may_use(&self, row: &SessionRow) -> Result<(), Refusal> {
        let mine = match &self.role {
            Role::Operator => true,
            Role::Backend => row.owner == self.id,
            Role::Viewer(session) => *session == row.id,
        };
        if mine { Ok(()) } else { Err(Problem::NotYours.into()) }
    }

    /// Whether it may see all that `owner` owns, secrets included.
    ///
    /// # Errors
    /// It may not.
    pub fn may_own(&self, owner: &CallerId) -> Result<(), Refusal> {
        let mine = match &self.role {
            Role::Operator => true,
            Role::Backend => owner == &self.id,
            Role::Viewer(_) => false,
        };
        if mine { Ok(()) } else { Err(Problem::NotYours.into()) }
    }

    /// Whether it may start sessions and list things.
    ///
    /// # Errors
    /// It is a viewer.
    pub fn may_start(&self) -> Result<(), Refusal> {
        match &self.role {
            Role::Operator | Role::Backend => Ok(()),
            Role::Viewer(_) => Err(Refusal::new(Problem::NotYours, "this link opens one session and nothing else")),
        }
    }

    /// Whether it may do what only an operator may.
    ///
    /// # Errors
    /// It is not an operator.
    pub fn may_operate(&self) -> Result<(), Refusal> {
        match &self.role {
            Role::Operator => Ok(()),
            Role::Backend | Role::Viewer(_) => Err(Refusal::new(Problem::NotYours, "only an operator may do this")),
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
) -> Result<Caller, Refusal> {
    if peer.is_operator() {
        return Ok(Caller { id: app.local_operator.clone(), role: Role::Operator });
    }
    if let Some(token) = bearer(headers) {
        return by_token(app, token.expose()).await?.ok_or_else(|| Problem::NotSignedIn.into());
    }
    let cookies = cookies(headers);
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
    Err(Problem::NotSignedIn.into())
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

fn cookies(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('=')).collect()
}

/// A cookie is sent by the browser whoever's page asks; so what changes something must come from a page of ours.
fn same_site(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    own_origin(app, headers)?;
    if !method.is_safe() && !headers.contains_key(GUARD_HEADER) {
        let detail = format!("a signed-in page sends the header {GUARD_HEADER}");
        return Err(Refusal::new(Problem::ForeignOrigin, detail));
    }
    Ok(())
}

/// The `Origin`, where there is one, is ours.
///
/// # Errors
/// It is another site's.
pub fn own_origin(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let own = origin == app.base_url || (!host.is_empty() && authority == host);
    if own { Ok(()) } else { Err(Problem::ForeignOrigin.into()) }
}

/// Makes a single-use pass for a link.
///
/// # Errors
/// The database cannot be written.
pub async fn make_pass(app: &App, grant: Grant) -> Result<Secret, StoreError> {
    let pass = random::token("pass_");
    let expires_at_ms = clock::now() + app.config.sessions.pass_s_max * 1_000;
    app.store.create_pass(&NewPass { hash: Sha256Hex::of_secret(&pass), grant, expires_at_ms }).await?;
    Ok(pass)
}

/// Uses a pass up; the answer is the cookie to set, or nothing when `present` may do it already.
///
/// # Errors
/// The pass is spent, or the database cannot be used.
pub async fn enter(app: &App, pass: &Secret, present: Option<&Caller>) -> Result<Option<HeaderValue>, Refusal> {
    let now = clock::now();
    let grant = app.store.redeem_pass(&Sha256Hex::of_secret(pass), now).await?.ok_or(Problem::Spent)?;
    let (role, name, cookie) = match grant {
        Grant::Enter { name } => (Role::Operator, name, OPERATOR_COOKIE.to_owned()),
        Grant::View { session } => {
            let row = app.store.session(&session).await?.ok_or(Problem::UnknownSession)?;
            if present.is_some_and(|caller| caller.may_use(&row).is_ok()) {
                return Ok(None);
            }
            let cookie = format!("{VIEWER_COOKIE}{session}");
            (Role::Viewer(session), "viewer".to_owned(), cookie)
        }
    };
    let token = random::token("ck_");
    let life_s = app.config.sessions.cookie_s_max;
    let caller = NewCaller {
        id: random::id(CallerId::from_parts),
        role,
        name,
        token: Sha256Hex::of_secret(&token),
        created_at_ms: now,
        expires_at_ms: Some(now + life_s * 1_000),
    };
    app.store.create_caller(&caller).await?;
    let secure = if app.base_url.starts_with("https://") { "; Secure" } else { "" };
    let text = format!("{cookie}={}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}", token.expose());
    HeaderValue::from_str(&text).map(Some).map_err(|_| Problem::Internal.into())
}

/// The link that lets an operator in. The pass stands in the fragment, which browsers do not send.
///
/// # Errors
/// The database cannot be written.
pub async fn enter_link(app: &App) -> Result<String, StoreError> {
    let pass = make_pass(app, Grant::Enter { name: "operator".into() }).await?;
    Ok(format!("{}/enter#pass={}", app.base_url, pass.expose()))
}

/// The link to one session's page.
///
/// # Errors
/// The database cannot be written.
pub async fn viewer_link(app: &App, row: &SessionRow) -> Result<String, StoreError> {
    let pass = make_pass(app, Grant::View { session: row.id.clone() }).await?;
    let page = format!("{}/dashboard/remote-cli/auth?session={}&provider={}", app.base_url, row.id, row.provider);
    Ok(format!("{page}#pass={}", pass.expose()))
}
