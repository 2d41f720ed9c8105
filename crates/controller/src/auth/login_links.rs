//! Login links: a single-use token in the fragment of an address, which is redeemed for a cookie.

use super::{
    cookies::{OPERATOR_COOKIE, VIEWER_COOKIE},
    identify::Caller,
};
use crate::{api_error::ApiError, app::App, clock, random};
use anteroom_store::{LoginScope, NewCaller, NewLoginToken, Role, SessionRow, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem, Secret};
use axum::http::HeaderValue;

/// Makes a single-use pass for a link.
///
/// # Errors
/// The database cannot be written.
pub async fn make_pass(app: &App, scope: LoginScope) -> Result<Secret, StoreError> {
    let pass = random::token("pass_");
    let expires_at_ms = clock::now() + app.config.sessions.login_link_s_max * 1_000;
    app.store.create_login_token(&NewLoginToken { hash: Sha256Hex::of_secret(&pass), scope, expires_at_ms }).await?;
    Ok(pass)
}

/// Uses a pass up; the answer is the cookie to set, or nothing when `present` may do it already.
///
/// # Errors
/// The pass is spent, or the database cannot be used.
pub async fn enter(app: &App, pass: &Secret, present: Option<&Caller>) -> Result<Option<HeaderValue>, ApiError> {
    let now = clock::now();
    let scope = app.store.redeem_login_token(&Sha256Hex::of_secret(pass), now).await?.ok_or(Problem::TicketUsed)?;
    let (role, name, cookie) = match scope {
        LoginScope::Operator { name } => (Role::Operator, name, OPERATOR_COOKIE.to_owned()),
        LoginScope::Session { session } => {
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
    let pass = make_pass(app, LoginScope::Operator { name: "operator".into() }).await?;
    Ok(format!("{}/enter#pass={}", app.base_url, pass.expose()))
}

/// The link to one session's page.
///
/// # Errors
/// The database cannot be written.
pub async fn viewer_link(app: &App, row: &SessionRow) -> Result<String, StoreError> {
    let pass = make_pass(app, LoginScope::Session { session: row.id.clone() }).await?;
    let page = format!("{}/dashboard/remote-cli/auth?session={}&provider={}", app.base_url, row.id, row.provider);
    Ok(format!("{page}#pass={}", pass.expose()))
}
